"""DeepLabv3+: atrous spatial pyramid pooling joined with one fine map."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from semiseg.models.decoders.base import Decoder
from semiseg.models.layers import conv_bn_relu, resize, with_dropout


class ASPP(nn.Module):
    """Atrous spatial pyramid pooling.

    ``forward`` is ``project(branches(x))``; methods that mix between the branches and their projection call
    the two separately.

    Args:
        in_channels: channels of the coarsest encoder map.
        rates: dilation of each 3x3 branch.
        width: channels of each branch and of the result.
        dropout: probability of dropping a channel of the result.
    """

    def __init__(self, in_channels: int, rates: Sequence[int], width: int, *, dropout: float = 0.0) -> None:
        super().__init__()
        self.local = nn.ModuleList(
            [conv_bn_relu(in_channels, width)] + [conv_bn_relu(in_channels, width, 3, dilation=rate) for rate in rates]
        )
        self.pooled = conv_bn_relu(in_channels, width)
        self.project = with_dropout(conv_bn_relu((len(rates) + 2) * width, width), dropout)

    def branches(self, x: Tensor) -> Tensor:
        """(B, in_channels, h, w) to (B, (R + 2) * width, h, w): 1x1, R dilated branches, pooled branch.

        In training mode the batch norm of the pooled branch sees one value per image and channel, so it needs
        more than one image (PyTorch raises ValueError otherwise).
        """
        pooled = self.pooled(x.mean((2, 3), keepdim=True)).expand(-1, -1, *x.shape[-2:])
        return torch.cat([*(branch(x) for branch in self.local), pooled], dim=1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, in_channels, h, w) to (B, width, h, w)."""
        projected: Tensor = self.project(self.branches(x))
        return projected


class DeepLabV3PlusDecoder(Decoder):
    """DeepLabv3+ decoder; the result has the size of the finest encoder map.

    Reads the coarsest map (through ASPP) and the finest (through a 1x1 convolution), joins them at the finer
    size and refines with two 3x3 convolutions.

    Args:
        channels: channels of the encoder's maps, fine to coarse.
        aspp_rates: dilations, (6, 12, 18) at output stride 16, twice that at 8.
        width: channels of ASPP and of the result.
        low_level_width: channels the finest map is reduced to.
        dropout: probability of dropping a channel after ASPP and after each of the last convolutions (U2PL: 0.1).

    Source: Chen et al. 2018, "Encoder-Decoder with Atrous Separable Convolution", figure 2, with plain
    instead of separable convolutions and align_corners=True throughout, as in the code of UniMatch.
    """

    def __init__(
        self,
        channels: Sequence[int],
        *,
        aspp_rates: Sequence[int] = (6, 12, 18),
        width: int = 256,
        low_level_width: int = 48,
        dropout: float = 0.0,
    ) -> None:
        super().__init__(
            context_channels=width, join_channels=width + low_level_width, out_channels=width, align_corners=True
        )
        self.aspp = ASPP(channels[-1], aspp_rates, width, dropout=dropout)
        self.low_level = conv_bn_relu(channels[0], low_level_width)
        self.refine = nn.Sequential(
            with_dropout(conv_bn_relu(width + low_level_width, width, 3), dropout),
            with_dropout(conv_bn_relu(width, width, 3), dropout),
        )

    def context(self, features: list[Tensor]) -> Tensor:
        """Result of ASPP, (B, width, h', w')."""
        pooled: Tensor = self.aspp(features[-1])
        return pooled

    def join(self, features: list[Tensor], context: Tensor) -> Tensor:
        """ASPP and the finest encoder map, concatenated at the finer size, (B, width + low_level_width, h, w)."""
        low_level = self.low_level(features[0])
        height, width = low_level.shape[-2:]
        return torch.cat([resize(context, (height, width), align_corners=self.align_corners), low_level], dim=1)
