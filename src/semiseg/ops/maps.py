"""Between the pixels of an image and those of a network's map."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor
from torch.nn import functional as F


def halved(x: Tensor) -> Tensor:
    """(B, D, h, w) to (B, D, ceil(h / 2), ceil(w / 2)): the mean of every 2x2 pixels, of fewer at an odd border.

    Where h and w are even this is bilinear resizing by 0.5 without aligned corners.
    """
    return F.avg_pool2d(x, 2, ceil_mode=True)


def onto_map(x: Tensor, like: Tensor, *, multiple: int = 1, outside: float) -> Tensor:
    """Labels or masks of images at the pixels of a map, nearest.

    Args:
        x: (B, H, W) long, bool or float.
        like: (..., h, w), a map of the network.
        multiple: the network pads images right and below to a multiple of this, ``Encoder.size_multiple``.
        outside: the value there.

    Returns:
        (B, h, w) of the type of ``x``.
    """
    padded = F.pad(x.float(), (0, -x.shape[-1] % multiple, 0, -x.shape[-2] % multiple), value=outside)
    return F.interpolate(padded.unsqueeze(1), like.shape[-2:], mode="nearest").squeeze(1).to(x.dtype)


def onto_image(x: Tensor, size: Sequence[int], *, multiple: int = 1) -> Tensor:
    """The way back of :func:`onto_map`: (B, h, w) long or float to (B, H, W) = ``size``, nearest."""
    (height, width), n = size, multiple
    padded_size = (height + -height % n, width + -width % n)
    return F.interpolate(x.unsqueeze(1).float(), padded_size, mode="nearest")[:, 0, :height, :width].to(x.dtype)
