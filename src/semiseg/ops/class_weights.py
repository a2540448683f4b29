"""Class weights for supervised losses: rare classes count more."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor

from semiseg.errors import InputError

ClassWeights = Literal["balanced"] | Annotated[Sequence[Annotated[float, Field(gt=0, le=1e6)]], Field(min_length=2)]
"""One number per class, in the order of the label values; ``balanced``: the weights of ``median_frequency``."""


def weighted_mean(per_pixel: Tensor, labels: Tensor, weights: ClassWeights, keep: Tensor) -> Tensor:
    """Mean of a loss over pixels, each with the weight of its class: sum(w l) / sum(w).

    Args:
        per_pixel: (B, H, W) float.
        labels: (B, H, W) long in [0, C), or anything where ``keep`` is False.
        weights: C numbers.
        keep: (B, H, W) bool: pixels that count.

    Returns:
        Scalar; 0 with a graph when no pixel counts.

    Raises:
        InputError: if ``weights`` is ``balanced``, which must be resolved from the data first.
    """
    if isinstance(weights, str):
        raise InputError(f"class_weights={weights} depends on the data: give one number a class")
    table = _table(tuple(weights), labels.device)
    weight = table[labels.where(keep, 0)] * keep
    return (weight * per_pixel).sum() / weight.sum().clamp(min=1e-12)


def median_frequency(pixels: Tensor) -> Tensor:
    """Weights that balance classes: median(f) / f of each class.

    f of a class is its fraction of the labeled pixels in the images that show it; the median is over the classes that
    occur. Classes that do not occur get 1.

    Args:
        pixels: (N, C) pixel counts of each class in each image, without ignored pixels.

    Returns:
        (C,) float64.
    Source: Eigen and Fergus 2015, section 6.1; SegNet's weights for CamVid.
    """
    pixels = pixels.double()
    shows = pixels > 0
    of_images = (shows * pixels.sum(1, keepdim=True)).sum(0)
    frequency = pixels.sum(0) / of_images.clamp(min=1)
    seen = frequency > 0
    if not seen.any():
        return torch.ones_like(frequency)
    median = frequency[seen].quantile(0.5)
    return torch.where(seen, median / frequency.clamp(min=1e-300), 1.0)


@functools.lru_cache(maxsize=16)
def _table(weights: tuple[float, ...], device: torch.device) -> Tensor:
    """The weights on a device, moved there once."""
    return torch.tensor(weights, dtype=torch.float32, device=device)
