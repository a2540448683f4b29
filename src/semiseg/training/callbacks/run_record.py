"""Progress of a run so far: validation history, time, memory. Part of the checkpoint, source of result.json."""

from __future__ import annotations

import math
import resource
import sys
import time
from typing import Any

import pytorch_lightning as pl
import torch

from semiseg.data.batch import SemiBatch


class RunRecord(pl.Callback):
    """Keeps the numbers reported in result.json; they survive a kill as part of the checkpoint."""

    KEPT = (
        "best",
        "best_step",
        "last",
        "last_step",
        "seconds_training",
        "seconds_validation",
        "images",
        "peak_memory_mb",
    )

    def __init__(self) -> None:
        self.best: float | None = None
        self.best_step = 0
        self.last: dict[str, float] = {}
        self.last_step = -1
        self.seconds_training = 0.0
        self.seconds_validation = 0.0
        self.images = 0
        self.peak_memory_mb = 0.0
        self.validating = False
        self.stop_reason: str | None = None  # why a callback aborted the run
        self.stopped_early: str | None = None  # why a callback completed the run before its last step
        self._since = time.perf_counter()

    def state_dict(self) -> dict[str, Any]:
        """Plain numbers only."""
        return {name: getattr(self, name) for name in self.KEPT}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore from a checkpoint."""
        vars(self).update(state_dict)

    @property
    def improved(self) -> bool:
        """Whether the last validation was the best."""
        return self.best is not None and self.best_step == self.last_step

    def on_train_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Start the clock."""
        self._since = time.perf_counter()

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Count images and time."""
        unlabeled = len(batch.unlabeled.weak) if isinstance(batch, SemiBatch) else 0
        self.images += (len(batch.labeled) + unlabeled) * trainer.world_size
        self._lap("seconds_training")

    def on_validation_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Count the time since the last step as training."""
        self.validating = True
        self._lap("seconds_training")

    def on_validation_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Record the new numbers."""
        self.validating = False
        self._lap("seconds_validation")
        self._measure_memory(trainer)
        self.last = {k: v.item() for k, v in trainer.callback_metrics.items() if k.startswith("val/")}
        self.last_step = trainer.global_step
        miou = self.last["val/miou"]
        # The score on a subset is not a result and does not select a checkpoint.
        if trainer.datamodule.validates_all and not math.isnan(miou) and (self.best is None or miou > self.best):  # type: ignore[attr-defined]
            self.best, self.best_step = miou, trainer.global_step

    def _lap(self, name: str) -> None:
        now = time.perf_counter()
        setattr(self, name, getattr(self, name) + now - self._since)
        self._since = now

    def _measure_memory(self, trainer: pl.Trainer) -> None:
        self.peak_memory_mb = max(self.peak_memory_mb, peak_memory(trainer.strategy.root_device))


def peak_memory(device: torch.device) -> float:
    """Peak memory of this process so far, in MiB: GPU memory, or main memory on a CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    # ru_maxrss is in KiB on Linux, in bytes on macOS.
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)
