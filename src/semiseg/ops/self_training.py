"""Operations for self-training: stability of predictions, and erased boxes."""

from __future__ import annotations

import torch
from torch import Tensor

from semiseg.ops.mixing import paste


def image_miou(a: Tensor, b: Tensor, n_classes: int) -> Tensor:
    """Mean IoU of two predictions per image, over the classes present in either of them.

    Args:
        a, b: (B, H, W) long in [0, C).
        n_classes: C.

    Returns:
        (B,) float in [0, 1].
    """
    cell = (a * n_classes + b).flatten(1)
    matrix = torch.zeros(len(a), n_classes**2, device=a.device)
    matrix = matrix.scatter_add_(1, cell, torch.ones_like(cell, dtype=matrix.dtype)).unflatten(1, (n_classes, -1))
    hit = matrix.diagonal(dim1=1, dim2=2)
    iou: Tensor = hit / (matrix.sum(dim=1) + matrix.sum(dim=2) - hit)  # 0 / 0: a class in neither
    return iou.nanmean(dim=1)


def stability(earlier: list[Tensor], final: Tensor, n_classes: int) -> Tensor:
    """Mean IoU with the final prediction, averaged over earlier predictions (B, H, W): (B,).

    Source: Yang et al. 2022 (ST++), released code.
    """
    return torch.stack([image_miou(prediction, final, n_classes) for prediction in earlier]).mean(dim=0)


def most_stable(scores: Tensor) -> Tensor:
    """Indices of the floor(n / 2) largest of n scores, long; ties go to the first."""
    return scores.argsort(descending=True, stable=True)[: len(scores) // 2]


def erased(images: Tensor, mask: Tensor) -> Tensor:
    """Images (B, 3, H, W) with noise where ``mask`` (B, H, W) is True: CutOut with random pixels.

    The noise is uniform between the minimum and maximum of each channel in the batch, which correspond to 0 and 255
    in normalized images.
    """
    low, high = images.amin(dim=(0, 2, 3), keepdim=True), images.amax(dim=(0, 2, 3), keepdim=True)
    return paste(mask, low + (high - low) * torch.rand_like(images), images)
