"""Updates every EMA teacher of a method from its student."""

from __future__ import annotations

from typing import Any

import pytorch_lightning as pl

from semiseg.ops.ema import EmaUpdater


class EmaTeacher(pl.Callback):
    """Updates teachers once per optimizer step, after it or before the forward pass, depending on the pair.

    Counts optimizer steps, not batches: with gradient accumulation a teacher is updated once per accumulated step. The
    number of updates is the trainer's ``global_step``, so the callback has no state to resume.
    """

    def __init__(self) -> None:
        self._updaters: list[EmaUpdater] = []
        self._before_at = self._after_at = 0

    def on_train_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Collect the tensors: by now the networks are restored and on their device."""
        self._updaters = [EmaUpdater(pair) for pair in pl_module.teacher_pairs()]
        self._before_at = trainer.global_step - 1
        self._after_at = trainer.global_step

    def on_train_batch_start(self, trainer: pl.Trainer, *_: Any) -> None:
        """Update pairs with ``when=before_step``, before the first forward pass of an optimizer step."""
        if trainer.global_step > self._before_at:
            self._before_at = trainer.global_step
            self._update("before_step", trainer.global_step)

    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        """Update pairs with ``when=after_step``, after the optimizer step."""
        if trainer.global_step > self._after_at:
            self._after_at = trainer.global_step
            self._update("after_step", trainer.global_step - 1)

    def _update(self, when: str, done: int) -> None:
        for updater in self._updaters:
            if updater.ema.when == when:
                updater.update(done)
