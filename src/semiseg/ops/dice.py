"""Cross-entropy with a Dice term, which weights all classes equally, however rare."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from semiseg.arguments import checked
from semiseg.ops.class_weights import ClassWeights
from semiseg.ops.losses import IGNORE, cross_entropy
from semiseg.ops.ranges import Index, Weight


def dice_loss(logits: Tensor, labels: Tensor, *, ignore: int = IGNORE) -> Tensor:
    """1 - Dice, averaged over the classes present in the labels of the batch.

    Dice of a class is 2 sum(p y) / (sum(p) + sum(y)) over all labeled pixels of the batch, p its probability.

    Args:
        logits: (B, C, H, W) float, unnormalized; computed in float32 regardless of their type.
        labels: (B, H, W) long in [0, C) or ``ignore``.

    Returns:
        Scalar in [0, 1]; 0 with a graph when every pixel is ignored.
    Source: Milletari et al. 2016 (V-Net), with p + y in the denominator as in Sudre et al. 2017.
    """
    valid = (labels != ignore)[:, None]
    prob = logits.float().softmax(1) * valid
    truth = F.one_hot(labels.where(valid[:, 0], 0), logits.shape[1]).movedim(-1, 1) * valid
    both, shown = (prob * truth).sum((0, 2, 3)), truth.sum((0, 2, 3))
    dice = 2 * both / (prob.sum((0, 2, 3)) + shown).clamp(min=1e-6)
    present = shown > 0
    return torch.where(present, 1 - dice, 0.0 * dice).sum() / present.sum().clamp(min=1)


@checked
@dataclass(frozen=True)
class CrossEntropyDice:
    """Supervised loss: cross-entropy plus a Dice term.

    Args:
        dice_weight: weight of the Dice term.
        class_weights: one per class, for the cross-entropy; the Dice term weights all classes equally.
    """

    dice_weight: Weight = 1.0
    ignore: Index = IGNORE
    class_weights: ClassWeights | None = None

    def __call__(self, logits: Tensor, labels: Tensor) -> Tensor:
        """(B, C, H, W) logits, (B, H, W) labels -> scalar."""
        dice = dice_loss(logits, labels, ignore=self.ignore)
        entropy = cross_entropy(logits, labels, ignore=self.ignore, class_weights=self.class_weights)
        return entropy + self.dice_weight * dice
