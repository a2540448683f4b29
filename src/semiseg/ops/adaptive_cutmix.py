"""Adaptive CutMix: images for which the teacher is unsure first get patches of labeled images.

Uses torch's random generator: the patch size is drawn once per batch, which the data workers cannot share.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from semiseg.ops.contrast import entropy
from semiseg.ops.losses import IGNORE
from semiseg.ops.mixing import box_mask, paste
from semiseg.ops.pseudo import PseudoLabels


def certainty(prob: Tensor, padded: Tensor) -> Tensor:
    """Confidence of the teacher in an image: mean over its pixels of max probability * (1 - entropy / log C).

    Args:
        prob: (B, C, H, W) float, class probabilities.
        padded: (B, H, W) bool, pixels to exclude.

    Returns:
        (B,) float in [0, 1]: 1 for one-hot, 0 for uniform predictions.
    Source: Zhao et al. 2023 (AugSeg).
    """
    sure = prob.amax(dim=1) * (1 - entropy(prob) / math.log(prob.shape[1]))
    return (sure * ~padded).sum(dim=(1, 2)) / (~padded).sum(dim=(1, 2)).clamp(min=1)


def known_labels(labels: Tensor) -> PseudoLabels:
    """Ground-truth labels (B, H, W) as pseudo-labels with confidence 1; ignored pixels count as padding."""
    ignored = labels == IGNORE
    return PseudoLabels(labels.masked_fill(ignored, 0), torch.ones_like(labels, dtype=torch.float32), ignored)


def beta(a: int, b: int, device: torch.device) -> Tensor:
    """A scalar drawn from Beta(a, b), a and b at least 1: the a-th smallest of a + b - 1 uniform numbers."""
    return torch.rand(a + b - 1, device=device).kthvalue(a).values


def patch_mask(n: int, height: int, width: int, uncut: Tensor) -> Tensor:
    """One patch per image: sides sqrt(1 - uncut) times the image's, center uniform in the last 7/8 of each side.

    Args:
        n: number of images B.
        height, width: size of the images, in pixels.
        uncut: scalar in [0, 1], fraction of the image that is kept if the border does not clip the patch.

    Returns:
        (B, H, W) bool.
    Source: released code of AugSeg.
    """
    device, share, ends = uncut.device, (1 - uncut).sqrt(), []
    for side in (height, width):
        center, half = torch.randint(side // 8, side, (n,), device=device), (share * side).long() // 2
        ends.append(((center - half).clamp(min=0), (center + half).clamp(max=side)))
    (y0, y1), (x0, x1) = ends
    return box_mask(torch.stack([y0, x0, y1, x1], dim=1)[:, None], height, width)


def adaptive_cutmix(
    images: Tensor, pseudo: PseudoLabels, labeled: Tensor, labels: Tensor, sure: Tensor, order: Tensor
) -> tuple[Tensor, PseudoLabels]:
    """Paste patches of labeled images into copies of the unlabeled ones, and patches of the copies into the images.

    The copy of image i gets a patch of a labeled image with probability 1 - ``sure[i]``; then every image gets a
    patch of the copy of another image. Labels, confidence and padding are mixed with the same masks.

    Args:
        images: (B, 3, H, W) strong views.
        pseudo: their labels.
        labeled, labels: (B_l, 3, H, W) and (B_l, H, W), the labeled images.
        sure: (B,) float, see :func:`certainty`.
        order: (B,) long, index of the image, labeled or unlabeled, pasted into image i; modulo B_l for labeled images.

    Returns:
        The mixed images and their labels.
    Source: Zhao et al. 2023 (AugSeg); sizes Beta(8, 2) and Beta(4, 4) as in the released code.
    """
    n, (height, width) = len(images), images.shape[-2:]
    small, large = (beta(a, b, images.device) for a, b in ((8, 2), (4, 4)))
    unsure = torch.rand(n, device=images.device) >= sure
    from_labeled = patch_mask(n, height, width, small) & unsure[:, None, None]
    giver = order % len(labeled)
    copies = paste(from_labeled, labeled[giver], images)
    copied = pseudo.mixed(from_labeled, known_labels(labels[giver]))
    from_copy = patch_mask(n, height, width, large)
    return paste(from_copy, copies[order], images), pseudo.mixed(from_copy, copied.map(lambda x: x[order]))
