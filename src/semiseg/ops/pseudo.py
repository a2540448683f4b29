"""Pseudo-labels: hard labels with a confidence, mixed together with the images they belong to."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from semiseg.ops.mixing import paste


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

    def keep(self, threshold: float) -> Tensor:
        """(B, H, W) bool: inside the image and confidence at least ``threshold`` (equality counts)."""
        return (self.confidence >= threshold) & ~self.padded

    def flip(self) -> PseudoLabels:
        """The batch in reverse order: image i gets the labels of image B-1-i."""
        return PseudoLabels(self.labels.flip(0), self.confidence.flip(0), self.padded.flip(0))

    def mixed(self, mask: Tensor, source: PseudoLabels) -> PseudoLabels:
        """Those of ``source`` where ``mask`` (B, H, W) is True: labels, confidence and padding move together."""
        return PseudoLabels(
            paste(mask, source.labels, self.labels),
            paste(mask, source.confidence, self.confidence),
            paste(mask, source.padded, self.padded),
        )


def probabilities(logits: Tensor) -> Tensor:
    """Class probabilities without a graph, (B, C, H, W) float32.

    Float32 whatever the autocast type: bfloat16 has steps of 0.004 near a confidence of 0.95.
    """
    return logits.detach().float().softmax(dim=1)


@torch.no_grad()
def pseudo_label(prob: Tensor, padded: Tensor) -> PseudoLabels:
    """Labels and confidence from probabilities (B, C, H, W); ``padded`` (B, H, W) marks what is no image."""
    confidence, labels = prob.max(dim=1)
    return PseudoLabels(labels, confidence, padded)
