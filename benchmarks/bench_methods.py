"""Time and peak memory of a training step of every method, against supervised training."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable
from functools import partial
from itertools import repeat
from pathlib import Path

os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # the memory profiler would look for a GPU, loudly

import torch
from bare import BareLoop, Setting, pieces
from table import Row
from timing import DEVICE, best_of
from torch.profiler import ProfilerActivity, profile

from semiseg.config import conf_dir

BASE = "supervised"
SETTING = Setting("deeplabv3plus_r18", 128, 2) if DEVICE.type == "cpu" else Setting("deeplabv3plus_r50", 321, 4)


def measure(*, quick: bool) -> list[Row]:
    """Every file in conf/method, on one batch that stays the same; supervised uses its labeled half."""
    setting = Setting("tiny", 32, 2) if quick else SETTING
    methods = sorted(path.stem for path in (conf_dir() / "method").glob("*.yaml"))
    memory = {name: peak_memory(partial(two_steps, name, setting)) for name in methods}
    seconds = best_of({name: one_batch(name, setting).step for name in methods}, 1 if quick else 7)
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


def peak_memory(work: Callable[[], object]) -> int:
    """Most bytes in tensors at one moment of ``work``: networks, optimizer, batch and all intermediate results."""
    if DEVICE.type == "cuda":
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        work()
        return torch.cuda.max_memory_allocated() - before
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        work()
    with tempfile.TemporaryDirectory() as folder:
        trace = Path(folder) / "trace.json"
        profiler.export_chrome_trace(str(trace))
        events = json.loads(trace.read_text())["traceEvents"]
    events = sorted((e for e in events if e["name"] == "[memory]"), key=lambda e: e["ts"])
    # The counter goes on from earlier profiles of this process, and does not see what is freed between them.
    before = events[0]["args"]["Total Allocated"] - events[0]["args"]["Bytes"]
    return max(e["args"]["Total Allocated"] for e in events) - before
