"""A progress bar for the whole run (loss, mIoU, time left), and one for each validation."""

from __future__ import annotations

from typing import Any

import pytorch_lightning as pl
from tqdm import tqdm


class Progress(pl.Callback):
    """Counts optimizer steps from 0 to the end of the run; a resumed run continues from its step.

    Args:
        every: optimizer steps between two refreshes; reading the loss waits for the device.
    """

    def __init__(self, every: int = 10) -> None:
        self.every = every
        self._bar: tqdm | None = None
        self._validation: tqdm | None = None
        self._values: dict[str, str] = {}

    def on_train_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Open the bar."""
        if trainer.is_global_zero:
            step = trainer.global_step
            self._bar = tqdm(
                total=trainer.max_steps,
                initial=step,
                desc="train",
                unit="step",
                dynamic_ncols=True,
                smoothing=0.05,
            )

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Move the bar."""
        step = trainer.global_step
        if self._bar is not None and (step % self.every == 0 or step >= trainer.max_steps) and step > self._bar.n:
            self._values["loss"] = f"{outputs['loss'].item() * trainer.accumulate_grad_batches:.3f}"
            self._bar.set_postfix(self._values, refresh=False)
            self._bar.update(step - self._bar.n)

    def on_validation_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Open a separate bar below; the bar of the run pauses meanwhile, at 100 % after the last step."""
        if trainer.is_global_zero:
            total = len(trainer.datamodule.eval_batches())  # type: ignore[attr-defined]
            self._validation = tqdm(total=total, desc="validate", unit="batch", dynamic_ncols=True, leave=False)

    def on_validation_batch_end(
        self, trainer: pl.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Move the bar of the validation."""
        if self._validation is not None:
            self._validation.update()

    def on_validation_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Close the bar of the validation; show the new mIoU in percent."""
        self._close_validation()
        if self._bar is not None and "val/miou" in trainer.callback_metrics:
            self._values["mIoU"] = f"{100 * trainer.callback_metrics['val/miou'].item():.2f}"
            self._bar.set_postfix(self._values, refresh=False)

    def on_train_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Close the bar."""
        self._close()

    def on_exception(self, trainer: pl.Trainer, pl_module: Any, exception: BaseException) -> None:
        """Close the bar."""
        self._close()

    def _close_validation(self) -> None:
        if self._validation is not None:
            self._validation.close()
            self._validation = None

    def _close(self) -> None:
        self._close_validation()
        if self._bar is not None:
            self._bar.close()
            self._bar = None
