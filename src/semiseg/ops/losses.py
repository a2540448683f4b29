"""Losses for dense prediction. Pure functions and stateless callables; no host sync."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from semiseg.arguments import checked
from semiseg.ops.class_weights import ClassWeights, weighted_mean
from semiseg.ops.ranges import Index, Share

IGNORE = 255
"""Label of a pixel that is neither trained on nor scored."""


def cross_entropy(
    logits: Tensor, labels: Tensor, *, ignore: int = IGNORE, class_weights: ClassWeights | None = None
) -> Tensor:
    """Mean cross-entropy over the pixels that are not ignored.

    Args:
        logits: (B, C, H, W) float, unnormalized.
        labels: (B, H, W) long in [0, C) or ``ignore``.
        class_weights: one a class: the mean is weighted by them.

    Returns:
        Scalar; 0 with a graph when every pixel is ignored (torch's own mean would be NaN).
    """
    if class_weights is not None:
        loss = F.cross_entropy(logits, labels, ignore_index=ignore, reduction="none")
        return weighted_mean(loss, labels, class_weights, labels != ignore)
    # Not reduction="sum": on a GPU it has no deterministic implementation, so trainer.deterministic=true would stop.
    total = F.cross_entropy(logits, labels, ignore_index=ignore, reduction="none").sum()
    return total / (labels != ignore).sum().clamp(min=1)


def unsupervised_cross_entropy(
    logits: Tensor,
    labels: Tensor,
    keep: Tensor,
    padded: Tensor,
    *,
    denominator: Literal["non_padded", "all"] = "non_padded",
) -> Tensor:
    """Cross-entropy against pseudo-labels on the kept pixels, divided by the number of all (non-padded) pixels.

    L = sum 1[keep] 1[not padded] CE / sum 1[not padded]: pixels that are not kept still count in the denominator.

    Args:
        logits: (B, C, H, W) float.
        labels: (B, H, W) long in [0, C): pseudo-labels.
        keep: (B, H, W) bool: pixels to learn from.
        padded: (B, H, W) bool: pixels outside the image; never learned from.
        denominator: ``non_padded`` as in UniMatch, ``all`` as in AugSeg and ClassMix.

    Returns:
        Scalar; 0 with a graph when nothing is kept.
    Source: FixMatch, Sohn et al. 2020, eq. 4, pixel-wise as in the UniMatch code.
    """
    per_pixel = F.cross_entropy(logits, labels, reduction="none")
    total = (per_pixel * (keep & ~padded)).sum()
    if denominator == "all":
        return total / padded.numel()
    return total / (~padded).sum().clamp(min=1)


def unsupervised_kl(logits: Tensor, target: Tensor, keep: Tensor, padded: Tensor) -> Tensor:
    """KL(target || softmax(logits)) on the kept pixels, divided by the number of non-padded pixels.

    Args:
        logits: (B, C, H, W) float, from the student.
        target: (B, C, H, W) float32 probabilities.
        keep, padded: (B, H, W) bool, as for :func:`unsupervised_cross_entropy`.
    """
    per_pixel = F.kl_div(logits.float().log_softmax(dim=1), target, reduction="none").sum(dim=1)
    return (per_pixel * (keep & ~padded)).sum() / (~padded).sum().clamp(min=1)


def squared_consistency(logits: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """Squared distance of class probabilities, summed over classes, weighted per pixel, averaged over all pixels.

    Args:
        logits: (B, C, H, W) float, from the student.
        target: (B, C, H, W) float probabilities, from the teacher.
        weight: (B, H, W) or broadcastable, per-pixel weight; 0 for padding.
    Source: French et al. 2020 (CutMix-Seg), section 3; the sum over classes makes weight 1 comparable to weight C
        of a class-averaged mean squared error.
    """
    distance = (logits.float().softmax(dim=1) - target.float()).square().sum(dim=1)
    return (distance * weight).mean()


@checked
@dataclass(frozen=True)
class CrossEntropy:
    """Supervised loss: mean cross-entropy over labeled pixels.

    Args:
        class_weights: one a class: the mean is weighted by them.
    """

    ignore: Index = IGNORE
    class_weights: ClassWeights | None = None

    def __call__(self, logits: Tensor, labels: Tensor) -> Tensor:
        """(B, C, H, W) logits, (B, H, W) labels -> scalar."""
        return cross_entropy(logits, labels, ignore=self.ignore, class_weights=self.class_weights)


@checked
@dataclass(frozen=True)
class OHEM:
    """Supervised loss: cross-entropy over hard pixels only (online hard example mining).

    Keeps the pixels whose probability of the true class is at most max(``threshold``, the k-th smallest such
    probability), k = ``min_kept``. With fewer than ``min_kept`` valid pixels it is plain cross-entropy.

    Args:
        threshold: probability below which a pixel is hard, in [0, 1].
        min_kept: pixels that are always kept, counted over the batch of one process.
        class_weights: one per class, weights of the mean over the kept pixels; they do not affect which are kept.
    Source: Shrivastava et al. 2016; per-pixel form of the CPS and UniMatch code. No branch on data: no host sync.
    """

    threshold: Share = 0.7
    min_kept: Index = 100_000
    ignore: Index = IGNORE
    class_weights: ClassWeights | None = None

    def __call__(self, logits: Tensor, labels: Tensor) -> Tensor:
        """(B, C, H, W) logits, (B, H, W) labels -> scalar."""
        valid = labels != self.ignore
        loss = F.cross_entropy(logits, labels, ignore_index=self.ignore, reduction="none")
        with torch.no_grad():
            # exp(-CE) is the probability of the true class; ignored pixels count as perfectly easy.
            prob = torch.where(valid, (-loss.float()).exp(), 1.0)
            k = min(self.min_kept, prob.numel())
            kth = prob.flatten().kthvalue(k).values if k > 0 else prob.new_zeros(())
            limit = kth.clamp(min=self.threshold)
            few = valid.sum() < self.min_kept
            keep = valid & ((prob <= limit) | few)
        if self.class_weights is not None:
            return weighted_mean(loss, labels, self.class_weights, keep)
        return (loss * keep).sum() / keep.sum().clamp(min=1)
