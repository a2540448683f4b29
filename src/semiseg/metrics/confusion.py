"""Dataset-wide confusion matrix and the scores computed from it."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor
from torchmetrics import Metric

from semiseg.errors import InputError


class Scores(NamedTuple):
    """Scores in [0, 1] over all pixels counted so far, as plain numbers; per-class ones in class order.

    NaN means undefined: ``iou`` of a class in neither labels nor predictions, ``precision`` of a class that is never
    predicted, ``recall`` of a class that is not in the labels, ``miou`` and ``accuracy`` if no pixel was counted.
    """

    miou: float  # mean of the defined IoUs
    iou: tuple[float, ...]
    classes_counted: int  # number of classes averaged in `miou`
    accuracy: float  # pixel accuracy
    precision: tuple[float, ...]
    recall: tuple[float, ...]


class ConfusionMatrix(Metric):
    """Counts of (label, prediction) pairs over a whole data set, summed over processes.

    Args:
        num_classes: C, classes in labels and predictions.
        ignore: label of pixels that are not counted.

    ``update`` never causes a host sync: it counts with ``scatter_add_``, since ``bincount`` copies the maximum of its
    input to the host on every CUDA call. Invalid values go to a separate bin instead of being checked per batch: they
    do not affect the scores, and ``compute`` reports them.

    Source: standard mIoU, with one matrix over the whole validation set (Everingham et al. 2015). UniMatch and
    related code count a class with an empty union as 0; here, as in torchmetrics, it is excluded.
    """

    full_state_update = False
    is_differentiable = False
    higher_is_better = True

    matrix: Tensor  # (C, C) long; row: label, column: prediction
    invalid: Tensor  # () long; pixels with an invalid label or prediction

    def __init__(self, num_classes: int, *, ignore: int = 255) -> None:
        super().__init__()
        if num_classes < 1:
            raise InputError(f"num_classes={num_classes}: expected at least 1")
        if 0 <= ignore < num_classes:
            raise InputError(f"ignore={ignore} is a class index (num_classes={num_classes}): choose 255")
        self.num_classes, self.ignore = num_classes, ignore
        self.add_state("matrix", torch.zeros(num_classes, num_classes, dtype=torch.long), dist_reduce_fx="sum")
        self.add_state("invalid", torch.zeros((), dtype=torch.long), dist_reduce_fx="sum")

    def update(self, pred: Tensor, target: Tensor) -> None:
        """Count one batch.

        Args:
            pred: (B, H, W) long in [0, C): class indices, not logits.
            target: (B, H, W) long in [0, C) or ``ignore``.

        Raises:
            ValueError: if the shapes differ or ``pred`` is not integer.
        """
        if pred.shape != target.shape or pred.is_floating_point():
            raise ValueError(
                f"expected class indices of the same shape, got predictions {tuple(pred.shape)} of "
                f"{pred.dtype} and labels {tuple(target.shape)}"
            )
        c = self.num_classes
        pred, target = pred.long(), target.long()
        valid = (target >= 0) & (target < c) & (pred >= 0) & (pred < c)
        # After the c * c cells: one bin for ignored pixels, one for invalid ones.
        overflow = torch.where(target == self.ignore, c * c, c * c + 1)
        cell = torch.where(valid, target * c + pred, overflow).flatten()
        # int32 has native atomics everywhere and is exact for one batch; the state is int64.
        counts = torch.zeros(c * c + 2, dtype=torch.int32, device=cell.device)
        counts.scatter_add_(0, cell, counts.new_ones(()).expand(len(cell)))
        self.matrix += counts[: c * c].view(c, c)
        self.invalid += counts[-1]

    def compute(self) -> Scores:
        """Scores of everything counted since the last reset.

        Raises:
            InputError: if a label was neither a class nor ``ignore``, or a prediction was not a class.
        """
        if invalid := int(self.invalid):
            raise InputError(
                f"{invalid} pixels have a label that is neither in 0..{self.num_classes - 1} nor "
                f"{self.ignore}, or a prediction that is not a class: check the masks (`semiseg data check`) "
                f"and the number of classes of the model"
            )
        matrix = self.matrix.cpu().double()  # on the CPU: exact to 2^53, and not every device has float64
        hit, labeled, predicted = matrix.diag(), matrix.sum(1), matrix.sum(0)
        iou = hit / (labeled + predicted - hit)  # 0 / 0 is NaN, as intended
        return Scores(
            miou=iou.nanmean().item(),
            iou=tuple(iou.tolist()),
            classes_counted=sum(not math.isnan(x) for x in iou.tolist()),
            accuracy=(hit.sum() / matrix.sum()).item(),
            precision=tuple((hit / predicted).tolist()),
            recall=tuple((hit / labeled).tolist()),
        )
