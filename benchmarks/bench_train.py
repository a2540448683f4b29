"""A step of ``semiseg train``, with all that it logs and checks, against a bare loop around the same step."""

from __future__ import annotations

import contextlib
import os
import tempfile
import time
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from bare import BareLoop, Setting, pieces
from table import Row
from timing import DEVICE, timed

from semiseg import build
from semiseg.callbacks.run_record import RunRecord
from semiseg.checkpoint import describe
from semiseg.train import quiet_lightning

METHOD = "mean_teacher"  # a teacher to move, pseudo-labels to count: most of what callbacks do
TINY = Setting("tiny", 64, 8)  # of data=shapes as it comes
REAL = Setting("deeplabv3plus_r18", 128, 4) if DEVICE.type == "cpu" else Setting("deeplabv3plus_r50", 321, 8)


def measure(*, quick: bool) -> list[Row]:
    """The smallest step there is, where every millisecond shows, and a realistic one."""
    if quick:
        return [overhead(Setting("tiny", 32, 2), block=2, rounds=1)]
    return [overhead(TINY, block=10, rounds=15), overhead(REAL, block=5, rounds=8)]


def overhead(setting: Setting, *, block: int, rounds: int) -> Row:
    """Best block of steps of one over best block of the other. Each block of the trainer writes a line of metrics.

    The last validation and checkpoint come after the clock.
    """
    cfg = setting.config(METHOD, f"max_steps={block * (rounds + 1)}", "val_every=1000000", f"trainer.log_every={block}")
    _, method, datamodule = pieces(cfg)
    bare = BareLoop(method, datamodule, iter(datamodule.train_dataloader()))
    turns = TakeTurns(bare, block)
    dataset, method, datamodule = pieces(cfg)
    with tempfile.TemporaryDirectory() as folder, open(os.devnull, "w") as nowhere:
        with quiet_lightning(), contextlib.redirect_stderr(nowhere):  # the progress bar works, but is not seen
            trainer = build.build_trainer(cfg, Path(folder), dataset, record=RunRecord(), info=describe(cfg, dataset))
            trainer.callbacks.append(turns)
            try:
                trainer.fit(method, datamodule=datamodule)
            finally:
                torch.use_deterministic_algorithms(False)
    extra = 1e3 * (turns.trainer - turns.bare) / block
    return Row(
        f"training step, {setting}",
        turns.trainer / turns.bare,
        f"bare loop around the same step ({1e3 * turns.bare / block:.1f} ms)",
        goal=1.03,
        detail=f"{extra:+.2f} ms a step",
    )


class TakeTurns(pl.Callback):
    """Lets the bare loop run a block of steps after each block of the trainer; keeps the best seconds of each.

    The first block of both warms up.
    """

    def __init__(self, loop: BareLoop, block: int) -> None:
        self.loop, self.block = loop, block
        self.trainer = self.bare = float("inf")
        self._start = float("nan")

    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        if trainer.global_step % self.block:
            return
        if DEVICE.type == "cuda":
            torch.cuda.synchronize()
        seconds = time.perf_counter() - self._start
        # A loop written by hand would not ask for deterministic algorithms.
        mode = torch.get_deterministic_debug_mode()
        torch.set_deterministic_debug_mode("default")
        bare = timed(lambda: [self.loop.step() for _ in range(self.block)])
        torch.set_deterministic_debug_mode(mode)
        if trainer.global_step > self.block:
            self.trainer, self.bare = min(self.trainer, seconds), min(self.bare, bare)
        self._start = time.perf_counter()
