"""The base of all methods: networks, training step, validation, optimizer."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Self, cast

import pytorch_lightning as pl
import torch
from torch import Tensor, nn

from semiseg.data.batch import SemiBatch, ViewSpec
from semiseg.inference import Inference, Whole, most_probable
from semiseg.methods.networks import frozen_copy
from semiseg.metrics.confusion import ConfusionMatrix
from semiseg.models.segmentor import Segmentor
from semiseg.ops.distributed import from_first_rank
from semiseg.ops.ema import Ema, TeacherPair
from semiseg.ops.losses import CrossEntropy
from semiseg.ops.pseudo import PseudoLabels


@dataclass
class Parts:
    """The parts that a method is built from. Plain objects, usable from a notebook.

    Args:
        network: builds a newly initialized network at every call.
        classes: class names, in the order of the label values.
        sup_loss: (logits, labels) -> scalar, for the labeled images.
        optim: list of trainable networks -> return value of Lightning's ``configure_optimizers``.
        inference: how a network is applied to whole images in validation.
        max_steps: optimizer steps of the run, for schedules.
        crop_size: (height, width) of training images in pixels, for state that depends on map sizes.
    """

    network: Callable[[], Segmentor]
    classes: Sequence[str]
    sup_loss: Callable[[Tensor, Tensor], Tensor] = CrossEntropy()
    optim: Callable[[Sequence[nn.Module]], Any] | None = None
    inference: Inference = field(default_factory=Whole)
    max_steps: int = 1
    crop_size: tuple[int, int] = (0, 0)


@dataclass
class StepOutput:
    """Result of a step.

    Args:
        loss: scalar to minimize.
        terms: scalars to log as ``train/<name>``.
        pseudo: pseudo-labels of the weak views before any mixing, for the diagnostics.
        keep: (B, H, W) bool, the pixels of ``pseudo`` that were learned from.
    """

    loss: Tensor
    terms: dict[str, Tensor] = field(default_factory=dict)
    pseudo: PseudoLabels | None = None
    keep: Tensor | None = None


class SemiMethod(pl.LightningModule):
    """A semi-supervised method: a student, perhaps a teacher, and a ``step`` that reads like the paper.

    The teacher is a frozen copy that stays in eval mode and is updated only by the EMA callback. State that must
    survive a resume (queues, prototypes, thresholds) belongs in registered buffers.

    Attributes:
        steps_done: optimizer steps done before the current one; set from the trainer before every ``step``.
        terms: the loss of the latest step and its terms, detached.
    """

    view_spec: ViewSpec | None = None
    """What the method requires of the unlabeled images; None: it uses labeled images only."""

    def __init__(self, parts: Parts, *, ema: Ema | None = None) -> None:
        super().__init__()
        self.student = parts.network()
        self.teacher: Segmentor | None = frozen_copy(self.student) if ema else None
        self.ema: Ema | None = ema
        self.classes = tuple(parts.classes)
        self.num_classes = len(self.classes)
        self.sup_loss = parts.sup_loss
        self.optim = parts.optim
        self.inference = parts.inference
        self.max_steps = parts.max_steps
        self.steps_done = 0
        self.terms: dict[str, Tensor] = {}
        metrics = {name: ConfusionMatrix(self.num_classes) for name in self.evaluated()}
        self.metrics = cast("dict[str, ConfusionMatrix]", nn.ModuleDict(metrics))

    @abstractmethod
    def step(self, batch: SemiBatch) -> StepOutput:
        """One training step: the algorithm box of the paper."""

    def evaluated(self) -> dict[str, Segmentor]:
        """The networks that are validated; the last one is reported."""
        teacher = {} if self.teacher is None else {"teacher": self.teacher}
        return {"student": self.student} | teacher

    @property
    def progress(self) -> float:
        """Fraction of the run that is done, in [0, 1)."""
        return self.steps_done / self.max_steps

    def trained(self) -> list[nn.Module]:
        """The networks, and additional heads, that the optimizer trains."""
        return [self.student]

    def teacher_pairs(self) -> list[TeacherPair]:
        """Teachers with the students they follow; the EMA callback updates them."""
        if self.teacher is None or self.ema is None:
            return []
        return [TeacherPair(self.teacher, self.student, self.ema)]

    # -- helpers for step -------------------------------------------------------------------------------------

    def student_logits(self, *images: Tensor) -> tuple[Tensor, ...]:
        """Logits of several image batches (B_i, 3, H, W), by one forward pass over their concatenation."""
        logits: Tensor = self.student(torch.cat(images))
        return tuple(logits.split([len(x) for x in images]))

    # -- Lightning --------------------------------------------------------------------------------------------

    def train(self, mode: bool = True) -> Self:
        """Train mode for everything except the teachers."""
        super().train(mode)
        for pair in self.teacher_pairs():
            pair.teacher.eval()
        return self

    def training_step(self, batch: SemiBatch, batch_idx: int) -> dict[str, Any]:
        """Run ``step``; callbacks get its result as ``outputs``."""
        self.steps_done = self.global_step
        out = self.step(batch)
        self.terms = {"loss": out.loss.detach()} | {k: v.detach() for k, v in out.terms.items()}
        return {"loss": out.loss, "terms": out.terms, "pseudo": out.pseudo, "keep": out.keep}

    def on_validation_start(self) -> None:
        """Validate rank 0's network on all processes: BatchNorm statistics differ until DDP's next forward pass."""
        own = getattr(self, "_ddp_params_and_buffers_to_ignore", [])
        for name, buffer in self.named_buffers():
            if name not in own:
                from_first_rank(buffer)

    def validation_step(self, batch: list[Any], batch_idx: int) -> list[Tensor]:  # type: ignore[override]
        """Count every network's predictions; returns those of the reported network, one tensor per group."""
        predictions = []
        for group in batch:
            labels = self.inference.crop_labels(group.labels)
            for name, network in self.evaluated().items():
                prediction = most_probable(self.inference(network, group.images))
                self.metrics[name].update(prediction, labels)
            predictions.append(prediction)
        return predictions

    def on_validation_epoch_end(self) -> None:
        """Log mIoU of every network, and per-class IoU of the reported one."""
        values: dict[str, float] = {}
        for name, metric in self.metrics.items():
            result = metric.compute()
            values[f"val/miou_{name}"] = result.miou
            metric.reset()
        values["val/miou"] = result.miou
        values["val/pixel_accuracy"] = result.accuracy
        values |= {f"val/iou/{name}": iou for name, iou in zip(self.classes, result.iou)}
        # Every process has the same synchronized values; the log callback writes them with the exact step.
        self.log_dict(values, logger=False, batch_size=1)

    def configure_optimizers(self) -> Any:
        """Student parameters only."""
        if self.optim is None:
            raise ValueError("Parts.optim is required for training")
        return self.optim(self.trained())
