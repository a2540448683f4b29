"""A small network for small images on a CPU: for demos, tests and quick experiments."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional as F

from semiseg.models.decoders.base import Decoder
from semiseg.models.encoders.base import Encoder
from semiseg.models.layers import conv_bn_relu, resize

NARROW = 16
"""Channels. Below this, oneDNN writes past its buffers in the backward pass of a 1x1 convolution of stride 2 in
channels-last layout (torch 2.14.1, CPUs with AVX-512): the process crashes with a corrupt heap."""


class NarrowShortcut(nn.Conv2d):
    """1x1 convolution of stride 2, computed as stride 1 on every second pixel: the same sum with another kernel."""

    def forward(self, x: Tensor) -> Tensor:
        """(B, in_channels, h, w) to (B, out_channels, ceil(h / 2), ceil(w / 2))."""
        return F.conv2d(x[..., ::2, ::2], self.weight)


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions with batch norm, and a 1x1 shortcut; halves the size."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.first = conv_bn_relu(in_channels, out_channels, 3, stride=2)
        self.second = nn.Sequential(
            nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False), nn.BatchNorm2d(out_channels)
        )
        shortcut = NarrowShortcut if in_channels < NARROW else nn.Conv2d
        self.shortcut = nn.Sequential(
            shortcut(in_channels, out_channels, kernel_size=1, stride=2, bias=False),
            nn.BatchNorm2d(out_channels),
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B, in_channels, h, w) to (B, out_channels, ceil(h / 2), ceil(w / 2))."""
        return F.relu(self.second(self.first(x)) + self.shortcut(x), inplace=True)


class TinyEncoder(Encoder):
    """Four maps of stride 2, 4, 8 and 16 with ``width`` times 1, 2, 4 and 8 channels; any size."""

    def __init__(self, *, width: int = 16, in_channels: int = 3) -> None:
        channels = [width, 2 * width, 4 * width, 8 * width]
        super().__init__(channels, (2, 4, 8, 16))
        self.stages = nn.ModuleList(
            [conv_bn_relu(in_channels, width, 3, stride=2)] + [ResidualBlock(c, 2 * c) for c in channels[:-1]]
        )

    def forward(self, x: Tensor) -> list[Tensor]:
        """See :class:`Encoder`."""
        maps = []
        for stage in self.stages:
            x = stage(x)
            maps.append(x)
        return maps


class PyramidDecoder(Decoder):
    """Coarse to fine: 1x1 convolution to ``width``, add the next finer level; 3x3 convolution at the finest level.

    Args:
        channels: channels of the encoder's maps, fine to coarse.
        width: channels of the result, which has the size of the finest encoder map.
    """

    def __init__(self, channels: Sequence[int], *, width: int = 32) -> None:
        super().__init__(context_channels=channels[-1], join_channels=width, out_channels=width, align_corners=False)
        self.lateral = nn.ModuleList(nn.Conv2d(c, width, kernel_size=1) for c in channels)
        self.refine = conv_bn_relu(width, width, 3)

    def join(self, features: list[Tensor], context: Tensor) -> Tensor:
        """The sum of all levels at the finest size, (B, width, h, w)."""
        features = [*features[:-1], context]
        maps: list[Tensor] = [lateral(f) for lateral, f in zip(self.lateral, features, strict=True)]
        x = maps[-1]
        for finer in reversed(maps[:-1]):
            x = finer + resize(x, (finer.shape[-2], finer.shape[-1]), align_corners=self.align_corners)
        return x
