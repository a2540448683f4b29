"""Focal losses for dense prediction."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from semiseg.arguments import checked
from semiseg.ops.class_weights import ClassWeights, weighted_mean
from semiseg.ops.losses import IGNORE
from semiseg.ops.ranges import Index, Weight


def sigmoid_focal(logits: Tensor, labels: Tensor, *, alpha: float = 0.5, gamma: float = 0.5) -> Tensor:
    """Focal loss of C binary decisions per pixel, averaged over all B * C * H * W of them.

    With p = sigmoid(logit): -alpha (1 - p)^gamma log p for the class of the label, and
    -(1 - alpha) p^gamma log(1 - p) for every other class.

    Args:
        logits: (B, C, H, W) float, unnormalized; computed in float32 regardless of their type.
        labels: (B, H, W) long in [0, C). Pixels with any other value are negatives of all classes.
        alpha: weight of the positive decision in [0, 1].
        gamma: at least 0; 0 is binary cross-entropy times alpha | 1 - alpha.

    Returns:
        Scalar; value and gradient are finite for logits of any finite size.
    Source: Lin et al. 2017, eq. 5, per class as in mmsegmentation, whose GuidedMix-Net fork uses alpha = gamma = 0.5.
    """
    logits = logits.float()
    classes = torch.arange(logits.shape[1], device=logits.device)[:, None, None]
    positive = labels[:, None] == classes
    # The logit of the correct decision. 1 - p stays in log space: (1 - p)^0.5 has infinite slope where p rounds to 1.
    right = torch.where(positive, logits, -logits)
    weight = torch.where(positive, alpha, 1.0 - alpha)
    return -(weight * (gamma * F.logsigmoid(-right)).exp() * F.logsigmoid(right)).mean()


@checked
@dataclass(frozen=True)
class Focal:
    """Supervised loss: (1 - p)^gamma times the cross-entropy of each labeled pixel, p the probability of its class.

    Averaged over the pixels that are not ignored; 0 with a graph if all are.

    Args:
        gamma: at least 0; 0 is cross-entropy. Higher values down-weight easy pixels more.
        class_weights: one per class, weights of the mean.
    Source: Lin et al. 2017, eq. 4, with softmax in place of the sigmoid.
    """

    gamma: Weight = 2.0
    ignore: Index = IGNORE
    class_weights: ClassWeights | None = None

    def __call__(self, logits: Tensor, labels: Tensor) -> Tensor:
        """(B, C, H, W) logits, (B, H, W) labels -> scalar."""
        loss = F.cross_entropy(logits.float(), labels, ignore_index=self.ignore, reduction="none")
        # 1 - p by expm1: the slope of (1 - p)^gamma stays finite where p rounds to 1, for gamma >= 1.
        hard = (-torch.expm1(-loss)).clamp(min=1e-7) ** self.gamma
        if self.class_weights is not None:
            return weighted_mean(hard * loss, labels, self.class_weights, labels != self.ignore)
        return (hard * loss).sum() / (labels != self.ignore).sum().clamp(min=1)
