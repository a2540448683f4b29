"""progress.json: a heartbeat that distinguishes a running process from a dead one."""

from __future__ import annotations

import contextlib
import os
import socket
import time
from pathlib import Path
from typing import Any

import pytorch_lightning as pl

from semiseg.runs.files import write_json


class Heartbeat(pl.Callback):
    """Writes step, time left and the writing process (host, process id, device), at most every few seconds.

    Does not wait for the device. A full disk does not end the run here; writing the checkpoint reports it.

    Args:
        path: path of the file, which is replaced atomically.
        every: seconds between two heartbeats.
    """

    def __init__(self, path: Path, every: float = 3.0) -> None:
        self.path, self.every = Path(path), every
        self._started = self._written = 0.0
        self._first_step = 0

    def on_train_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Write the first heartbeat; time left is measured from here, so that a resumed run is not too optimistic."""
        self._started, self._first_step = time.monotonic(), trainer.global_step
        self._write(trainer, "train")

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Write a heartbeat if due."""
        self._write_if_due(trainer, "train")

    def on_validation_batch_end(
        self, trainer: pl.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Write a heartbeat if due, during a long validation."""
        self._write_if_due(trainer, "validate")

    def on_train_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Write the last step."""
        self._write(trainer, "end")

    def _write_if_due(self, trainer: pl.Trainer, doing: str) -> None:
        if time.monotonic() - self._written >= self.every:
            self._write(trainer, doing)

    def _write(self, trainer: pl.Trainer, doing: str) -> None:
        if not trainer.is_global_zero:
            return
        self._written = time.monotonic()
        step, done = trainer.global_step, trainer.global_step - self._first_step
        left = (self._written - self._started) / done * (trainer.max_steps - step) if done else None
        with contextlib.suppress(OSError):
            write_json(
                self.path,
                {
                    "step": step,
                    "max_steps": trainer.max_steps,
                    "doing": doing,
                    "seconds_left": None if left is None else round(left, 1),
                    "time": round(time.time(), 3),
                    "host": socket.gethostname(),
                    "pid": os.getpid(),
                    "device": trainer.strategy.root_device.type,
                },
            )
