"""Writes scalars to the loggers: means over the steps since the last line, with the exact optimizer step."""

from __future__ import annotations

import logging
import time
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor

from semiseg.metrics.confusion import ConfusionMatrix
from semiseg.ops.distributed import gather, total, world_size
from semiseg.training.callbacks.csv_logger import CsvLogger
from semiseg.training.callbacks.run_record import peak_memory

log = logging.getLogger(__name__)


class MetricsLog(pl.Callback):
    """Training terms, learning rates and pseudo-label statistics every ``every`` steps; validation when it ends.

    Sums stay on the device; the host waits for them only when a line is written. With several processes, the mean over
    all is written. Partial sums are part of the checkpoint, so that resuming does not affect the logged values.

    Args:
        every: optimizer steps between two lines.
        warn_after: warn once if no pixel has passed the threshold for this many steps.
    """

    def __init__(self, every: int = 50, warn_after: int = 500) -> None:
        self.every, self.warn_after = every, warn_after
        self._warned = False
        self._saved: dict[str, Any] | None = None
        self._sums: dict[str, Tensor] = {}
        self._batches = self._at = self._last_kept = 0
        self._shares: Tensor | None = None
        self._truth: ConfusionMatrix | None = None

    def state_dict(self) -> dict[str, Any]:
        """The sums of every process (W, ...), in rank order, so that each can restore its own."""
        sums = {"sum/" + name: value for name, value in self._sums.items()}
        if self._shares is not None:
            sums["shares"] = self._shares
        if self._truth is not None:
            sums["truth"] = self._truth.matrix
        return {
            "sums": {name: gather(value.reshape(1, *value.shape)).cpu() for name, value in sums.items()},
            "batches": self._batches,
            "at": self._at,
            "last_kept": self._last_kept,
            "warned": self._warned,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Keep the state until the device is known."""
        self._saved = state_dict

    # -- training ---------------------------------------------------------------------------------------------

    def on_train_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Drop lines after the step that is resumed from."""
        self._at = self._last_kept = trainer.global_step
        self._shares = self._truth = None
        self._reset()
        self._timed_from = trainer.global_step
        if self._saved is not None:
            self._restore(self._saved, pl_module, trainer.global_rank)
        for logger in trainer.loggers:
            if isinstance(logger, CsvLogger):
                logger.truncate(trainer.global_step)

    def _restore(self, saved: dict[str, Any], pl_module: Any, rank: int) -> None:
        self._batches, self._at = saved["batches"], saved["at"]
        self._last_kept, self._warned = saved["last_kept"], saved["warned"]
        for name, values in saved["sums"].items():
            # With another number of processes, each gets an equal part of the total.
            own = values[rank] if len(values) == world_size() else values.sum(0) / world_size()
            own = own.to(device=pl_module.device, dtype=values.dtype)
            if name == "shares":
                self._shares = own
            elif name == "truth":
                self._truth = ConfusionMatrix(len(own)).to(own.device)
                self._truth.matrix += own
            else:
                self._sums[name.removeprefix("sum/")] = own

    def _reset(self) -> None:
        self._sums = {}
        self._batches, self._since = 0, time.perf_counter()
        if self._shares is not None:
            self._shares.zero_()
        if self._truth is not None:
            self._truth.reset()

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Add this step; write a line if due."""
        self._add("loss", outputs["loss"] * trainer.accumulate_grad_batches)
        for name, value in outputs["terms"].items():
            self._add(name, value)
        if outputs["pseudo"] is not None:
            self._add_pseudo(pl_module.num_classes, outputs["pseudo"], outputs["keep"], batch.unlabeled.truth)
        self._batches += 1
        step = trainer.global_step
        if step > self._at and (step % self.every == 0 or step == trainer.max_steps):
            self._write(trainer, pl_module, step)

    def _add(self, name: str, value: Tensor) -> None:
        value = value.detach()
        self._sums[name] = self._sums[name] + value if name in self._sums else value.clone()

    def _add_pseudo(self, n: int, pseudo: Any, keep: Tensor, truth: Tensor | None) -> None:
        self._add("kept_ratio", keep.sum() / (~pseudo.padded).sum().clamp(min=1))
        # Pixels that were not kept go into an overflow bin: no gather, no synchronization.
        kept_labels = torch.where(keep, pseudo.labels, n)
        if self._shares is None:
            self._shares = torch.zeros(n + 1, device=keep.device)
        flat = kept_labels.flatten()
        self._shares.scatter_add_(0, flat, self._shares.new_ones(()).expand_as(flat))
        if truth is not None:
            if self._truth is None:
                self._truth = ConfusionMatrix(n + 1).to(keep.device)
            # The extra column counts the pixels that were not kept, so that recall treats them as missed.
            self._truth.update(kept_labels, truth)

    def _write(self, trainer: pl.Trainer, pl_module: Any, step: int) -> None:
        sums = total(torch.stack([v.float() for v in self._sums.values()])).tolist()
        values = {f"train/{k}": v / (self._batches * world_size()) for k, v in zip(self._sums, sums)}
        if self._shares is not None:
            counts = total(self._shares)[:-1]
            shares = (counts / counts.sum().clamp(min=1)).tolist()
            values |= {f"train/pseudo_share/{c}": s for c, s in zip(pl_module.classes, shares)}
            self._watch(values["train/kept_ratio"], step)
        if self._truth is not None:
            scores = self._truth.compute()
            matrix = total(self._truth.matrix)
            missed = matrix[:, -1].sum().item() / max(matrix.sum().item(), 1)
            values["pseudo/coverage"] = 1.0 - missed
            values["pseudo/accuracy"] = scores.accuracy / (1.0 - missed) if missed < 1.0 else float("nan")
            for kind, per_class in (("precision", scores.precision), ("recall", scores.recall)):
                values |= {f"pseudo/{kind}/{c}": v for c, v in zip(pl_module.classes, per_class)}
        values["memory/peak_mb"] = peak_memory(self._sums["loss"].device)
        for group in trainer.optimizers[0].param_groups:
            values[f"lr/{group.get('name', 'all')}"] = group["lr"]
        values["time/step"] = (time.perf_counter() - self._since) / (step - self._timed_from)
        for logger in trainer.loggers if trainer.is_global_zero else []:
            logger.log_metrics(values, step=step)
        self._at = self._timed_from = step
        self._reset()

    def _watch(self, kept: float, step: int) -> None:
        if kept > 0:
            self._last_kept = step
        elif not self._warned and step - self._last_kept >= self.warn_after:
            self._warned = True
            log.warning(
                "no pseudo-label has passed the confidence threshold for %d steps: the unlabeled images have no "
                "effect. Lower method.conf_threshold, or train longer before judging the method.",
                step - self._last_kept,
            )

    # -- validation -------------------------------------------------------------------------------------------

    def on_validation_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Exclude validation from the step time."""
        self._paused = time.perf_counter()

    def on_validation_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Write mIoU and per-class IoU."""
        if trainer.sanity_checking:
            return
        values = {k: v.item() for k, v in trainer.callback_metrics.items() if k.startswith("val/")}
        for logger in trainer.loggers if trainer.is_global_zero else []:
            logger.log_metrics(values, step=trainer.global_step)
            if hasattr(logger, "log_table"):  # wandb
                rows = [[c, values[f"val/iou/{c}"]] for c in pl_module.classes]
                logger.log_table("val/iou", columns=["class", "IoU"], data=rows, step=trainer.global_step)
        self._since += time.perf_counter() - self._paused
