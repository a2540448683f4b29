"""``early_stop.patience``: ends a run whose mIoU no longer improves."""

from __future__ import annotations

import logging
from typing import Any

import pytorch_lightning as pl

from semiseg.errors import InputError
from semiseg.methods.base import SemiMethod
from semiseg.methods.stages import StagedMethod
from semiseg.training.callbacks.run_record import RunRecord

log = logging.getLogger(__name__)


class EarlyStop(pl.Callback):
    """Ends training after ``patience`` consecutive validations without a better ``val/miou``.

    The count is part of the checkpoint, so that a killed and resumed run stops at the same step as an uninterrupted
    one. The callback must come before the one that saves, and after the record.

    Args:
        record: provides the numbers of the last validation, and receives the reason.
        patience: number of validations.
        method: the method being trained.

    Raises:
        InputError: the method trains in stages, each of which would have to stop separately.
    """

    def __init__(self, record: RunRecord, patience: int, method: SemiMethod) -> None:
        if isinstance(method, StagedMethod):
            raise InputError(f"early_stop.patience={patience}: this method trains in stages; remove early_stop")
        self.record, self.patience = record, patience
        self.best: float | None = None
        self.best_step = self.waited = 0

    def state_dict(self) -> dict[str, Any]:
        """Plain numbers only."""
        return {"best": self.best, "best_step": self.best_step, "waited": self.waited}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore from a checkpoint."""
        vars(self).update(state_dict)

    def on_train_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Stop immediately if the run was killed after the deciding validation."""
        self._decide(trainer)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Decide; every process has the same numbers and reaches the same decision."""
        miou = self.record.last["val/miou"]
        if self.best is None or miou > self.best:  # NaN is not better
            self.best, self.best_step, self.waited = miou, trainer.global_step, 0
        else:
            self.waited += 1
        self._decide(trainer)

    def _decide(self, trainer: pl.Trainer) -> None:
        if self.waited < self.patience or trainer.global_step >= trainer.max_steps:
            return
        self.record.stopped_early = (
            f"early stop at step {trainer.global_step} of {trainer.max_steps}: no better mIoU in {self.waited} "
            f"validations than {100 * (self.best or 0):.2f} at step {self.best_step}"
        )
        trainer.should_stop = True
        if trainer.is_global_zero:
            log.info("%s", self.record.stopped_early)
