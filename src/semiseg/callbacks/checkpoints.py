"""last.ckpt, previous.ckpt and best.ckpt, written so that a kill at any moment leaves whole files behind."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Checkpoint

from semiseg.callbacks.run_record import RunRecord


class Checkpoints(Checkpoint):
    """Saves the whole state every ``every`` steps and after each validation; keeps the best one as well.

    Lightning resumes exactly from two places: the end of a batch that no validation follows, and the end of a
    validation. It also runs callbacks of this type last, so that the record already holds the new numbers.

    Args:
        folder: where ``last.ckpt``, the one before it as ``previous.ckpt``, and ``best.ckpt`` go.
        record: says whether the last validation was the best.
        every: optimiser steps between two checkpoints.
        val_every: optimiser steps between two validations.
        info: plain facts stored under "semiseg", enough to rebuild the network from the file alone.
    """

    def __init__(self, folder: Path, record: RunRecord, *, every: int, val_every: int, info: dict[str, Any]) -> None:
        self.folder, self.record, self.info = Path(folder), record, info
        self.every, self.val_every = every, val_every
        self._saved_at = -1

    @property
    def last(self) -> Path:
        """The newest checkpoint."""
        return self.folder / "last.ckpt"

    @property
    def best(self) -> Path:
        """The checkpoint of the best validation."""
        return self.folder / "best.ckpt"

    def on_save_checkpoint(self, trainer: pl.Trainer, pl_module: Any, checkpoint: dict[str, Any]) -> None:
        """Add what identifies the run."""
        checkpoint["semiseg"] = self.info

    def on_train_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Nothing to save again at the step that is resumed from."""
        self._saved_at = trainer.global_step

    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        """Save when due, unless a validation follows and saves. The last step is always validated."""
        step = trainer.global_step
        validates = step % self.val_every == 0 or step >= trainer.max_steps
        if step >= trainer.max_steps:
            trainer.should_stop = True  # makes Lightning validate now, whatever the interval
        if step % self.every == 0 and step != self._saved_at and not validates:
            self._save(trainer)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Save, and keep the file as the best one if it is."""
        if trainer.sanity_checking or trainer.state.fn != "fit":
            return
        self._save(trainer)
        if self.record.improved and trainer.is_global_zero:
            self._keep_last_as(self.best)

    def _save(self, trainer: pl.Trainer) -> None:
        self._saved_at = trainer.global_step
        beside = self.last.with_suffix(".tmp")
        trainer.save_checkpoint(beside, weights_only=False)  # every process takes part
        if trainer.is_global_zero:
            with beside.open("rb") as f:
                os.fsync(f.fileno())
            if self.last.exists():
                self._keep_last_as(self.folder / "previous.ckpt")
            os.replace(beside, self.last)

    def _keep_last_as(self, path: Path) -> None:
        """A second name for the file: last.ckpt is replaced, never rewritten, so one file can serve both."""
        beside = path.with_suffix(".tmp")
        beside.unlink(missing_ok=True)
        try:
            os.link(self.last, beside)
        except OSError:
            shutil.copyfile(self.last, beside)
        os.replace(beside, path)
