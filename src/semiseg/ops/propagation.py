"""Propagation of confident pseudo-labels over regions given by a correlation map."""

from __future__ import annotations

import torch
from torch import Tensor

from semiseg.ops.pseudo import PseudoLabels


def class_maxima(pseudo: PseudoLabels, n_classes: int) -> Tensor:
    """Largest confidence of each class over non-padded pixels, (C,); 0 for absent classes."""
    inside = pseudo.confidence.masked_fill(pseudo.padded, 0.0).flatten()
    return inside.new_zeros(n_classes).scatter_reduce_(0, pseudo.labels.flatten(), inside, "amax")


def mean_over_present(maxima: Tensor, otherwise: Tensor) -> Tensor:
    """Mean of the positive values; ``otherwise`` if there are none. (C,) and a scalar to a scalar."""
    present = maxima > 0
    return torch.where(present.any(), maxima.sum() / present.sum().clamp(min=1), otherwise)


def min_max(maps: Tensor) -> Tensor:
    """(..., H, W) with each map rescaled to [0, 1]; 0 if it is constant."""
    low, high = maps.amin(dim=(-2, -1), keepdim=True), maps.amax(dim=(-2, -1), keepdim=True)
    return (maps - low) / (high - low).clamp(min=torch.finfo(maps.dtype).tiny)


@torch.no_grad()
def propagate(
    pseudo: PseudoLabels, confident: Tensor, regions: Tensor, threshold: Tensor, n_classes: int
) -> tuple[Tensor, Tensor]:
    """Give a whole region the label that nearly all of its pixels confidently have.

    A region passes if at least a fraction ``threshold`` of its pixels are confident, and more than ``threshold`` of
    those have the most frequent label among them. All regions are judged by the input labels; where regions that pass
    overlap, the last one wins.

    Args:
        pseudo: labels of B images.
        confident: (B, H, W) bool.
        regions: (B, M, H, W) bool.
        threshold: scalar.
        n_classes: C.

    Returns:
        Labels (B, H, W) long, and the pixels (B, H, W) bool that are confident or in a region that passed.
    Source: Sun et al. 2024 (CorrMatch), region propagation. The released code processes the regions one by one.
    """
    classes = torch.arange(n_classes, device=regions.device)
    votes = (pseudo.labels[..., None] == classes) & confident[..., None]  # one_hot would cause a host sync
    # bfloat16 would round the counts.
    with torch.autocast(regions.device.type, enabled=False):
        counts = regions.flatten(2).float() @ votes.flatten(1, 2).float()  # (B, M, C)
    sure, (most, label) = counts.sum(dim=2), counts.max(dim=2)
    passes = (sure >= threshold * regions.flatten(2).sum(dim=2)) & (most > threshold * sure)
    number = torch.arange(1, regions.shape[1] + 1, device=regions.device, dtype=torch.int16)
    last = ((passes * number)[..., None, None] * regions).amax(dim=1).long()  # 0: none
    of_last = label.gather(1, (last - 1).clamp(min=0).flatten(1)).view_as(last)
    return torch.where(last > 0, of_last, pseudo.labels), confident | (last > 0)
