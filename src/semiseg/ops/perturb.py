"""Perturbation of feature maps."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def complementary_mask(n: int, channels: int, *, device: torch.device | None = None) -> Tensor:
    """Random channel factors for two views of n images: channels dropped in one view are doubled in the other.

    A random floor(n / 2) of the n images are left unchanged: factor 1 in both views.

    Returns:
        (2n, channels) float32 in {0, 1, 2}: first views, then second views; the two factors of an image sum to 2.
    Source: Yang et al. 2025 (UniMatch V2), complementary dropout with probability 0.5, and the released code.
    """
    first = 2.0 * torch.randint(0, 2, (n, channels), device=device)
    whole = torch.rand(n, device=device).argsort() < n // 2
    first = torch.where(whole[:, None], 1.0, first)
    return torch.cat([first, 2.0 - first])


def comp_drop(features: Sequence[Tensor]) -> list[Tensor]:
    """Complementary channel dropout on every level of a feature pyramid.

    Maps with the same number of channels, as in a plain transformer, share one mask. If the numbers differ, as in a
    convolutional pyramid, every level draws its own mask, including the choice of unchanged images.

    Args:
        features: maps (2B, C_i, h_i, w_i): B first views, then the B second views of the same images.

    Returns:
        Maps of the same shapes and types.
    Source: UniMatch V2's code on DINOv2; independent levels for convolutional encoders as stated by its author.
    """
    n, device = len(features[0]) // 2, features[0].device
    channels = [x.shape[1] for x in features]
    if len(set(channels)) == 1:
        masks = [complementary_mask(n, channels[0], device=device)] * len(features)
    else:
        masks = [complementary_mask(n, c, device=device) for c in channels]
    return [x * mask.to(x.dtype)[:, :, None, None] for x, mask in zip(features, masks)]
