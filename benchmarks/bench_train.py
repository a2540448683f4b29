"""A step of ``semiseg train``, with all that it logs and checks, against a bare loop around the same step."""

from __future__ import annotations

import contextlib
import os
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

import pytorch_lightning as pl
import torch
from bare import BareLoop, Setting, assembled, pieces
from table import Row
from timing import DEVICE, timed

from semiseg.runs.checkpoint import describe
from semiseg.runs.folder import RunFolder
from semiseg.training.callbacks.run_record import RunRecord
from semiseg.training.callbacks.step_watch import StepWatch
from semiseg.training.trainer import build_trainer, quiet_lightning

METHOD = "mean_teacher"  # a teacher to move, pseudo-labels to count: most of what callbacks do
TINY = Setting("tiny", 64, 8)  # of data=shapes as it comes
REAL = Setting("deeplabv3plus_r18", 128, 2) if DEVICE.type == "cpu" else Setting("deeplabv3plus_r50", 321, 8)
ROUND = 10  # steps
TURN = 1 if DEVICE.type == "cpu" else ROUND  # short turns meet the same load; a GPU must not wait after each step


def measure(*, quick: bool) -> list[Row]:
    """The smallest step there is, where every millisecond shows, and a realistic one."""
    if quick:
        return [overhead(Setting("tiny", 32, 2), rounds=1)]
    return [overhead(TINY, rounds=25), overhead(REAL, rounds=4)]


def overhead(setting: Setting, *, rounds: int) -> Row:
    """Median over rounds of ten steps. In each, a line of metrics is written and the progress bar moves.

    The last validation and checkpoint come after the clock.
    """
    cfg = setting.config(METHOD, f"max_steps={ROUND * (rounds + 1)}", "val_every=1000000", f"trainer.log_every={ROUND}")
    _, method, datamodule = pieces(cfg)
    turns = TakeTurns(BareLoop(method, datamodule, iter(datamodule.train_dataloader())))
    settings, assembly = assembled(cfg)
    with (
        tempfile.TemporaryDirectory() as folder,
        open(os.devnull, "w") as nowhere,
        contextlib.redirect_stderr(nowhere),  # the progress bar works, but is not seen
        quiet_lightning(),
    ):
        mode = torch.get_deterministic_debug_mode()  # the trainer sets it for the whole process
        trainer = build_trainer(
            settings,
            RunFolder(Path(folder)),
            assembly,
            record=RunRecord(),
            watch=StepWatch(Path(folder)),
            info=describe(settings.stored, assembly.data.dataset, {}),
        )
        trainer.callbacks.append(turns)
        try:
            trainer.fit(assembly.method, datamodule=assembly.datamodule)
        finally:
            torch.set_deterministic_debug_mode(mode)
    ratio = median(t / b for t, b in turns.rounds)
    bare = 1e3 * median(b for _, b in turns.rounds) / ROUND
    return Row(
        f"training step, {setting}",
        ratio,
        f"bare loop around the same step ({bare:.1f} ms)",
        goal=1.03,
        detail=f"{(ratio - 1) * bare:+.1f} ms a step",
    )


class TakeTurns(pl.Callback):
    """Lets the bare loop step whenever the trainer has.

    Attributes:
        rounds: seconds of the trainer and of the bare loop for every ten steps; the first ten of both warm up.
    """

    def __init__(self, loop: BareLoop) -> None:
        self.loop = loop
        self.rounds: list[tuple[float, float]] = []
        self._trainer = self._bare = self._start = 0.0

    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        if trainer.global_step % TURN:
            return
        if DEVICE.type == "cuda":
            torch.cuda.synchronize()
        self._trainer += time.perf_counter() - self._start
        # A loop written by hand would not ask for deterministic algorithms.
        mode = torch.get_deterministic_debug_mode()
        torch.set_deterministic_debug_mode("default")
        self._bare += timed(lambda: [self.loop.step() for _ in range(TURN)])
        torch.set_deterministic_debug_mode(mode)
        if trainer.global_step % ROUND == 0:
            if trainer.global_step > ROUND:
                self.rounds.append((self._trainer, self._bare))
            self._trainer = self._bare = 0.0
        self._start = time.perf_counter()
