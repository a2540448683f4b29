"""The interface of all encoders."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Self

from torch import Tensor, nn


class Encoder(nn.Module, ABC):
    """Image to feature pyramid.

    Args:
        channels: channels of each map, fine to coarse.
        reductions: image size over map size, for each map.
        size_multiple: image height and width must be divisible by it; 1 if any size works.
    """

    def __init__(self, channels: Sequence[int], reductions: Sequence[int], size_multiple: int = 1) -> None:
        super().__init__()
        self.channels = tuple(channels)
        self.reductions = tuple(reductions)
        self.size_multiple = size_multiple
        self.frozen = False

    @abstractmethod
    def forward(self, x: Tensor) -> list[Tensor]:
        """Images (B, 3, H, W) to maps (B, channels[i], ceil(H / reductions[i]), ceil(W / reductions[i]))."""

    def freeze(self) -> None:
        """Freeze permanently: no gradients, and eval mode regardless of the network's mode."""
        self.frozen = True
        self.requires_grad_(False)
        self.eval()

    def train(self, mode: bool = True) -> Self:
        """Set training mode, unless frozen."""
        return super().train(mode and not self.frozen)

    @property
    def one_size(self) -> bool:
        """Whether all maps have the same height and width, as those of a plain vision transformer."""
        return len(self.channels) > 1 and len(set(self.reductions)) == 1
