"""Pseudo-labels: hard labels with a confidence, mixed together with the images they belong to."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass
class PseudoLabels:
    """Hard labels of B unlabeled images.

    Attributes:
        labels: (B, H, W) long in [0, C).
        confidence: (B, H, W) float32 in [0, 1], the largest class probability.
        padded: (B, H, W) bool, outside the image.
    """

    labels: Tensor
    confidence: Tensor
    padded: Tensor

    def keep(self, threshold: float | Tensor) -> Tensor:
        """(B, H, W) bool: inside the image and confidence >= ``threshold``."""
        return (self.confidence >= threshold) & ~self.padded

    def map(self, f: Callable[[Tensor], Tensor]) -> PseudoLabels:
        """Apply the same operation to labels, confidence and padding."""
        return PseudoLabels(f(self.labels), f(self.confidence), f(self.padded))

    def mixed(self, mask: Tensor, source: PseudoLabels) -> PseudoLabels:
        """Take labels, confidence and padding from ``source`` where ``mask`` (B, H, W) is True."""
        return PseudoLabels(
            torch.where(mask, source.labels, self.labels),
            torch.where(mask, source.confidence, self.confidence),
            torch.where(mask, source.padded, self.padded),
        )


def probabilities(logits: Tensor) -> Tensor:
    """Class probabilities without a graph, (B, C, H, W) float32.

    Float32 regardless of the autocast type: bfloat16 has steps of 0.004 near a confidence of 0.95.
    """
    return logits.detach().float().softmax(dim=1)


@torch.no_grad()
def pseudo_label(prob: Tensor, padded: Tensor) -> PseudoLabels:
    """Labels and confidence from probabilities (B, C, H, W); ``padded`` (B, H, W) marks pixels outside the image."""
    confidence, labels = prob.max(dim=1)
    return PseudoLabels(labels, confidence, padded)
