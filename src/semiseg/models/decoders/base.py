"""The interface of all decoders."""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor, nn


class Decoder(nn.Module, ABC):
    """Feature pyramid to the map that the classifier reads: ``refine(join(features, context(features)))``.

    Methods can read or mix intermediate maps between the three steps.

    Args:
        context_channels: channels of :meth:`context`.
        join_channels: channels J of :meth:`join`.
        out_channels: channels D of the result.
        align_corners: how maps are resized, inside the decoder and from the logits to the image.

    Attributes:
        refine: the convolutions after joining, (B, J, h, w) to (B, D, h, w).
    """

    refine: nn.Module

    def __init__(self, *, context_channels: int, join_channels: int, out_channels: int, align_corners: bool) -> None:
        super().__init__()
        self.context_channels = context_channels
        self.join_channels = join_channels
        self.out_channels = out_channels
        self.align_corners = align_corners

    def context(self, features: list[Tensor]) -> Tensor:
        """The deepest map that the decoder uses, at the size of the coarsest encoder map."""
        return features[-1]

    @abstractmethod
    def join(self, features: list[Tensor], context: Tensor) -> Tensor:
        """All levels joined in one map (B, J, h, w), before the last convolutions.

        Args:
            features: maps (B, C_i, h_i, w_i) of the encoder, fine to coarse.
            context: result of :meth:`context`.
        """

    def forward(self, features: list[Tensor]) -> Tensor:
        """Maps (B, C_i, h_i, w_i), fine to coarse, to (B, D, h, w)."""
        refined: Tensor = self.refine(self.join(features, self.context(features)))
        return refined
