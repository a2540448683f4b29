"""Resampling between the pixels of an image and those of a feature map."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor
from torch.nn import functional as F


def halved(x: Tensor) -> Tensor:
    """(B, D, h, w) to (B, D, ceil(h / 2), ceil(w / 2)): the mean of every 2x2 block, of fewer pixels at an odd border.

    For even h and w this is bilinear resizing by 0.5 without aligned corners.
    """
    return F.avg_pool2d(x, 2, ceil_mode=True)


def onto_map(x: Tensor, like: Tensor, *, multiple: int = 1, outside: float) -> Tensor:
    """Resample labels or masks of images to the size of a feature map, by nearest neighbor.

    Args:
        x: (B, H, W) long, bool or float.
        like: (..., h, w), a map of the network.
        multiple: the network pads images at the right and bottom to a multiple of this, ``Encoder.size_multiple``.
        outside: value of the padding.

    Returns:
        (B, h, w) of the type of ``x``.
    """
    padded = F.pad(x.float(), (0, -x.shape[-1] % multiple, 0, -x.shape[-2] % multiple), value=outside)
    return F.interpolate(padded.unsqueeze(1), like.shape[-2:], mode="nearest").squeeze(1).to(x.dtype)


def onto_image(x: Tensor, size: Sequence[int], *, multiple: int = 1) -> Tensor:
    """The inverse of :func:`onto_map`: (B, h, w) long or float to (B, H, W) = ``size``, by nearest neighbor."""
    (height, width), n = size, multiple
    padded_size = (height + -height % n, width + -width % n)
    return F.interpolate(x.unsqueeze(1).float(), padded_size, mode="nearest")[:, 0, :height, :width].to(x.dtype)
