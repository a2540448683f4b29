"""SegFormer's all-MLP decoder."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from semiseg.models.decoders.base import Decoder
from semiseg.models.layers import conv_bn_relu, resize


class SegFormerDecoder(Decoder):
    """Linear map per level, all resized to the finest, concatenated coarse to fine and fused.

    Args:
        channels: of the encoder's maps, fine to coarse.
        width: channels each level is mapped to, and of the result.
        dropout: probability of dropping a channel of the result.

    Source: Xie et al. 2021, "SegFormer", section 3.2; bilinear with align_corners=False as in the authors' code.
    """

    def __init__(self, channels: Sequence[int], *, width: int = 768, dropout: float = 0.1) -> None:
        super().__init__(width, align_corners=False)
        self.linear = nn.ModuleList(nn.Conv2d(c, width, kernel_size=1) for c in channels)
        self.fuse = conv_bn_relu(len(channels) * width, width)
        nn.init.kaiming_normal_(self.fuse[0].weight, mode="fan_out", nonlinearity="relu")
        self.dropout = nn.Dropout2d(dropout)

    def forward(self, features: list[Tensor]) -> Tensor:
        """See :class:`Decoder`; the result has the size of the finest encoder map."""
        height, width = features[0].shape[-2:]
        maps = [linear(f) for linear, f in zip(self.linear, features, strict=True)]
        maps = [resize(m, (height, width), align_corners=self.align_corners) for m in reversed(maps)]
        return self.dropout(self.fuse(torch.cat(maps, dim=1)))
