"""The head of masked image modeling: pixels from deep features. Used in training only."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class ReconstructionDecoder(nn.Module):
    """Reconstructs an image from parts of a coarse map, one reconstruction per part.

    1x1 convolution, four blocks of 3x3 convolution, GroupNorm and ReLU, 1x1 convolution, PixelShuffle: 0.72 M
    parameters at 256 channels and stride 16. GroupNorm, because maps that are zero outside a part would distort batch
    statistics. The layers are our choice; SimMIM found that a light head is sufficient (Xie et al. 2022).

    Args:
        channels: channels of the map.
        stride: image size over map size.
        width: inner channels, a multiple of 8.
    """

    def __init__(self, channels: int, stride: int, *, width: int = 128) -> None:
        super().__init__()
        self.stride = stride
        # Without a bias it commutes with the gates, so it runs once per image instead of once per part.
        self.reduce = nn.Conv2d(channels, width, kernel_size=1, bias=False)
        blocks = [
            (nn.Conv2d(width, width, 3, padding=1, bias=False), nn.GroupNorm(8, width), nn.ReLU(inplace=True))
            for _ in range(4)
        ]
        self.body = nn.Sequential(*(layer for block in blocks for layer in block))
        self.head = nn.Conv2d(width, 3 * stride**2, kernel_size=1)
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
        nn.init.zeros_(self.head.bias)  # type: ignore[arg-type]

    def forward(self, context: Tensor, gates: Tensor, size: tuple[int, int]) -> Tensor:
        """The reconstruction of every part, (B, N, 3, H, W).

        Args:
            context: (B, channels, h, w).
            gates: (B, N, h, w) bool: the cells that the n-th reconstruction sees; all others are set to zero.
            size: (H, W) of the image; pixels of the last cells past the border are cropped.
        """
        parts = self.reduce(context)[:, None] * gates[:, :, None]
        pixels = F.pixel_shuffle(self.head(self.body(parts.flatten(0, 1))), self.stride)
        cut: Tensor = pixels[..., : size[0], : size[1]].unflatten(0, gates.shape[:2])
        return cut


class MaskToken(nn.Module):
    """A learned color for hidden pixels, initialized to zero (the mean of normalized images)."""

    def __init__(self) -> None:
        super().__init__()
        self.color = nn.Parameter(torch.zeros(3, 1, 1))

    def forward(self) -> Tensor:
        """(3, 1, 1), to broadcast over images."""
        return self.color
