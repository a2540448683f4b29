"""DeepLabv3: atrous spatial pyramid pooling without finer maps."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from semiseg.models.decoders.base import Decoder
from semiseg.models.layers import conv_bn_relu


class DeepLabV3Decoder(Decoder):
    """DeepLabv3 head as in mmsegmentation; it only reads the coarsest encoder map, and keeps its size.

    In training mode the batch norm of the pooled branch sees one value per image and channel, so it needs more than
    one image (PyTorch raises ValueError otherwise).

    Args:
        channels: channels of the encoder's maps, fine to coarse.
        aspp_rates: dilations of the 3x3 branches, (12, 24, 36) at output stride 8.
        width: channels of each branch and of the result.
        dropout: probability of dropping a channel of the result.

    Source: Chen et al. 2017, "Rethinking Atrous Convolution", section 3.3; widths, order of the branches
    (pooled, 1x1, dilated) and initial values as in mmsegmentation.
    """

    def __init__(
        self,
        channels: Sequence[int],
        *,
        aspp_rates: Sequence[int] = (12, 24, 36),
        width: int = 512,
        dropout: float = 0.1,
    ) -> None:
        joined = (len(aspp_rates) + 2) * width
        super().__init__(context_channels=joined, join_channels=joined, out_channels=width, align_corners=False)
        coarse = channels[-1]
        self.pooled = conv_bn_relu(coarse, width)
        self.local = nn.ModuleList(
            [conv_bn_relu(coarse, width)] + [conv_bn_relu(coarse, width, 3, dilation=rate) for rate in aspp_rates]
        )
        self.refine = nn.Sequential(conv_bn_relu(joined, width, 3), nn.Dropout2d(dropout))
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")

    def context(self, features: list[Tensor]) -> Tensor:
        """All branches concatenated, (B, (R + 2) * width, h, w)."""
        x = features[-1]
        pooled = self.pooled(x.mean((2, 3), keepdim=True)).expand(-1, -1, *x.shape[-2:])
        return torch.cat([pooled, *(branch(x) for branch in self.local)], dim=1)

    def join(self, features: list[Tensor], context: Tensor) -> Tensor:
        """Returns the branches, as there is no finer map to join."""
        return context
