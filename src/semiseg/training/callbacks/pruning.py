"""Reports intermediate mIoU to an Optuna study, and ends pruned trials."""

from __future__ import annotations

import logging
import math
from typing import Any

import pytorch_lightning as pl

from semiseg.sweep.pruner import load_trial
from semiseg.training.callbacks.run_record import RunRecord

log = logging.getLogger(__name__)


class Pruning(pl.Callback):
    """Reports ``val/miou`` after each validation; a pruned trial ends there, with its checkpoint.

    Args:
        record: must come before this callback; receives the reason.
        storage: URL of the study's storage.
        study: name of the study.
        number: number of the trial.
    """

    def __init__(self, record: RunRecord, *, storage: str, study: str, number: int) -> None:
        self.record, self.storage, self.study, self.number = record, storage, study, number
        self._trial: Any = None

    def on_validation_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Report; the first process asks the pruner, and all follow its answer."""
        step, miou = trainer.global_step, self.record.last["val/miou"]
        give_up = False
        if trainer.is_global_zero and not math.isnan(miou):
            self._trial = self._trial or load_trial(self.storage, self.study, self.number)
            self._trial.report(miou, step)
            give_up = step < trainer.max_steps and bool(self._trial.should_prune())
        if trainer.strategy.broadcast(give_up):
            self.record.stop_reason = f"pruned at step {step}: mIoU {100 * miou:.2f}, below earlier trials"
            trainer.should_stop = True
            log.info("%s", self.record.stop_reason)
