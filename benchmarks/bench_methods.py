"""Time and peak memory of a training step of every method, against supervised training."""

from __future__ import annotations

from functools import partial
from itertools import repeat

from bare import BareLoop, Setting, methods, pieces
from table import Row
from timing import DEVICE, in_turns

from semiseg.training.peak_memory import peak_memory

BASE = "supervised"
SETTING = Setting("deeplabv3plus_r18", 128, 2) if DEVICE.type == "cpu" else Setting("deeplabv3plus_r50", 321, 4)


def measure(*, quick: bool) -> list[Row]:
    """Every file in conf/method, on one batch that stays the same; supervised uses its labeled half."""
    setting = Setting("tiny", 32, 2) if quick else SETTING
    names = methods()
    memory = {name: peak_memory(partial(two_steps, name, setting), DEVICE) for name in names}
    turns = in_turns({name: one_batch(name, setting).step for name in names}, 1 if quick else 3)
    seconds = {name: min(found) for name, found in turns.items()}
    rows = []
    for what, measured, unit in (
        ("step", {name: 1e3 * s for name, s in seconds.items()}, "ms"),
        ("peak memory", {name: n / 2**20 for name, n in memory.items()}, "MiB"),
    ):
        base = measured.pop(BASE)
        rows += [
            Row(
                f"{what} of {name}, {setting}",
                value / base,
                f"{BASE}, the same labeled batch ({base:.0f} {unit})",
                detail=f"{value:.0f} {unit}",
            )
            for name, value in measured.items()
        ]
    return rows


def one_batch(method: str, setting: Setting) -> BareLoop:
    """A loop that is fed one batch over and over, so that no time goes into loading."""
    _, module, datamodule = pieces(setting.config(method))
    return BareLoop(module, datamodule, repeat(next(iter(datamodule.train_dataloader()))))


def two_steps(method: str, setting: Setting) -> None:
    """The second meets the state that the optimizer has made in the first."""
    loop = one_batch(method, setting)
    loop.step()
    loop.step()
