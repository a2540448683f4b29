"""last.ckpt, previous.ckpt and best.ckpt, written so that a kill at any moment leaves complete files."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Checkpoint

from semiseg.errors import RunFailed
from semiseg.runs.files import link, sync
from semiseg.runs.folder import RunFolder
from semiseg.runs.lease import check_held, staging
from semiseg.runs.overwrite import discard_replaced
from semiseg.training.callbacks.csv_logger import CsvLogger
from semiseg.training.callbacks.run_record import RunRecord
from semiseg.training.callbacks.step_watch import StepWatch, Stopped

LOOK_EVERY = 3.0  # seconds between checks of the run folder


class Checkpoints(Checkpoint):
    """Saves the full state every ``every`` steps and after each validation; also keeps the best one.

    Lightning resumes exactly from two points: the end of a batch that is not followed by a validation, and the end of
    a validation. It also runs callbacks of this type last, so that the record already contains the new numbers.

    Args:
        folder: the folder for ``last.ckpt``, its predecessor ``previous.ckpt``, and ``best.ckpt``.
        record: knows whether the last validation was the best.
        every: optimizer steps between two checkpoints.
        val_every: optimizer steps between two validations.
        info: plain metadata stored under "semiseg", enough to rebuild the network from the file alone.
        watch: knows whether the run should stop; it stops once the state is saved.
    """

    def __init__(
        self,
        folder: RunFolder,
        record: RunRecord,
        *,
        every: int,
        val_every: int,
        info: dict[str, Any],
        watch: StepWatch | None = None,
    ) -> None:
        self.run, self.folder = folder, folder.checkpoints
        self.record, self.info, self.watch = record, info, watch
        self.every, self.val_every = every, val_every
        self._saved_at = -1
        self._looked = 0.0

    def on_save_checkpoint(self, trainer: pl.Trainer, pl_module: Any, checkpoint: dict[str, Any]) -> None:
        """Add the metadata that identifies the run."""
        checkpoint["semiseg"] = self.info

    def on_train_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Do not save again at the step that is resumed from."""
        self._saved_at = trainer.global_step
        self._has_config = self.run.config.exists()

    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        """Save when due or requested to stop, unless a validation follows and saves. The last step always validates.

        Raises:
            Stopped: after saving.
            RunFailed: the checkpoint cannot be written.
        """
        self._look()
        step = trainer.global_step
        validates = step % self.val_every == 0 or step >= trainer.max_steps
        if step >= trainer.max_steps:
            trainer.should_stop = True  # makes Lightning validate now, regardless of the interval
        due = step % self.every == 0 or self._stopping
        if due and step != self._saved_at and not validates:
            self._save(trainer)
            self._stop(step)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Save, and also keep the file as best.ckpt if it is the best."""
        if trainer.sanity_checking or trainer.state.fn != "fit":
            return
        self._save(trainer, also=[self.run.checkpoint("best")] if self.record.improved else [])
        if trainer.global_step < trainer.max_steps:
            self._stop(trainer.global_step)

    def _look(self) -> None:
        """Check that the run folder still exists, so that a run does not continue for nothing.

        Raises:
            RunFailed: it was deleted.
        """
        if self._has_config and time.monotonic() - self._looked > LOOK_EVERY:
            self._looked = time.monotonic()
            if not self.run.config.exists():
                raise RunFailed(f"the run folder {self.run} was deleted or moved during its run")

    @property
    def _stopping(self) -> str:
        return self.watch.stopping if self.watch else ""

    def _stop(self, step: int) -> None:
        if self._stopping:
            raise Stopped(f"stopped by {self._stopping} at step {step}")

    def _save(self, trainer: pl.Trainer, also: Sequence[Path] = ()) -> None:
        self._saved_at = trainer.global_step
        self._looked = 0.0
        self._look()
        beside, last = staging(self.folder) / "last.tmp", self.run.checkpoint("last")
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            trainer.save_checkpoint(beside, weights_only=False)  # every process takes part
            if trainer.is_global_zero:
                check_held()
                for logger in trainer.loggers:
                    if isinstance(logger, CsvLogger):
                        logger.sync()  # what the checkpoint knows of must be in metrics.csv too
                sync(beside)
                # The best first: if killed in between, the resumed run repeats the same validation.
                for path in also:
                    link(beside, path)
                if last.exists():
                    link(last, self.run.checkpoint("previous"))
                os.replace(beside, last)
                sync(self.folder)
                discard_replaced(self.run.path)
        except OSError as e:
            check_held()
            for path in self.folder.glob("*.tmp"):
                path.unlink(missing_ok=True)
            there = "the earlier checkpoint is intact" if last.exists() else "there is no earlier checkpoint"
            raise RunFailed(
                f"the checkpoint of step {trainer.global_step} cannot be written to {self.folder}: {e.strerror or e}; "
                f"{there}: free some space and repeat the command"
            ) from e
