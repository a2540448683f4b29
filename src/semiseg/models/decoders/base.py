"""What every decoder offers."""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor, nn


class Decoder(nn.Module, ABC):
    """Feature pyramid to the one map that the classifier reads.

    Args:
        out_channels: channels D of that map.
        align_corners: how maps are resized, inside the decoder and from the logits to the image.
    """

    def __init__(self, out_channels: int, *, align_corners: bool) -> None:
        super().__init__()
        self.out_channels = out_channels
        self.align_corners = align_corners

    @abstractmethod
    def forward(self, features: list[Tensor]) -> Tensor:
        """Maps (B, C_i, h_i, w_i), fine to coarse, to (B, D, h, w)."""
