"""A whole step against the passes that the mathematics of its method needs, measured alone; see docs/speed.md."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from statistics import median

from bare import Setting
from passes import PASSES
from random_batch import random_batch
from table import Row
from timing import DEVICE, in_turns

from semiseg.config.settings import read_settings
from semiseg.methods.base import SemiMethod
from semiseg.training.assemble import assemble_method

CLASSES = [str(i) for i in range(21)]  # as many as VOC has: losses and labels cost as much as there
SETTING = Setting("deeplabv3plus_r18", 128, 2) if DEVICE.type == "cpu" else Setting("deeplabv3plus_r50", 321, 4)


def measure(*, quick: bool) -> list[Row]:
    """Forward and backward pass of a step: loader, optimizer and EMA are left out on both sides."""
    setting, rounds = (Setting("tiny", 32, 2), 1) if quick else (SETTING, 3)
    return [one(name, setting, rounds) for name in PASSES]


def one(name: str, setting: Setting, rounds: int) -> Row:
    """One method; the median of some rounds."""
    method = assemble_method(read_settings(setting.config(name)), CLASSES, max_steps=100).to(DEVICE).train()
    method.steps_done = 50  # past every warm-up
    batch = random_batch(method, setting.batch, setting.batch, (setting.crop, setting.crop), DEVICE)
    works: dict[str, Callable[[], object]] = {"step": partial(_step, method, batch)}
    works |= {str(i): x.alone(method, setting) for i, x in enumerate(PASSES[name])}
    seconds = in_turns(works, rounds)
    whole = seconds.pop("step")
    floors = [sum(turn) for turn in zip(*seconds.values(), strict=True)]
    return Row(
        f"step of {name}, {setting}",
        median(w / f for w, f in zip(whole, floors, strict=True)),
        f"its {len(PASSES[name])} passes alone ({1e3 * median(floors):.0f} ms)",
        goal=1.1,
        detail=f"{1e3 * median(whole):.0f} ms",
    )


def _step(method: SemiMethod, batch: object) -> None:
    method.train()
    method.step(batch).loss.backward()  # type: ignore[arg-type]
    method.zero_grad(set_to_none=True)
