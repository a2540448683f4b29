"""MITrans of GuidedMix-Net: every position of a map attends to every other one."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from semiseg.models.decoders.base import Decoder
from semiseg.models.layers import conv_bn_relu


class NonLocal(nn.Module):
    """Non-local block, embedded Gaussian: x + W softmax(theta(x)^T phi(x) / sqrt(c / 2)) g(x), initially the identity.

    Uses fused attention, so the (h w)^2 weights are never in memory.

    Args:
        channels: c of the map; halved by theta, phi and g.

    Source: Wang et al. 2018, with mmcv's scale, biases and initial values (normal std 0.01, W zero).
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        inner = max(channels // 2, 1)
        self.theta, self.phi, self.g = (nn.Conv2d(channels, inner, kernel_size=1) for _ in range(3))
        self.out = nn.Conv2d(inner, channels, kernel_size=1)
        for layer in (self.theta, self.phi, self.g):
            nn.init.normal_(layer.weight, std=0.01)
            nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        """(B, c, h, w) to the same shape."""
        # One head: (B, 1, h w, c / 2).
        query, key, value = (layer(x).flatten(2).mT.unsqueeze(1) for layer in (self.theta, self.phi, self.g))
        gathered = F.scaled_dot_product_attention(query, key, value)
        added: Tensor = self.out(gathered.squeeze(1).mT.unflatten(2, (x.shape[-2], x.shape[-1])))
        return x + added


class MITrans(nn.Module):
    """Mutual information transfer: 3x3, non-local, 3x3, concatenated with the input, 3x3, back to the input's channels.

    Args:
        channels: input and output channels.
        width: inner channels; never more than ``channels``.

    Source: Tu et al. 2022, the neck of the released code (which none of their configurations uses).
    Differs from it: batch norm (in the code, convolutions have a bias and no norm by default), width 512 instead of
        2048, and a last 1x1 convolution that restores the channels, so that any decoder can follow. The layout is ours.
    """

    def __init__(self, channels: int, width: int = 512) -> None:
        super().__init__()
        width = min(width, channels)
        self.first = conv_bn_relu(channels, width, 3)
        self.non_local = NonLocal(width)
        self.second = conv_bn_relu(width, width, 3)
        self.fuse = conv_bn_relu(channels + width, width, 3)
        self.restore = conv_bn_relu(width, channels)

    def forward(self, x: Tensor) -> Tensor:
        """(B, channels, h, w) to the same shape."""
        transferred = self.second(self.non_local(self.first(x)))
        fused: Tensor = self.restore(self.fuse(torch.cat([x, transferred], dim=1)))
        return fused


class MITransDecoder(nn.Module):
    """A decoder that reads the coarsest encoder map through MITrans.

    Args:
        decoder: the decoder after MITrans.
        channels: channels of the coarsest encoder map.
        width: see :class:`MITrans`.
    """

    def __init__(self, decoder: Decoder, channels: int, width: int = 512) -> None:
        super().__init__()
        self.transfer = MITrans(channels, width)
        self.decoder = decoder

    def forward(self, features: list[Tensor]) -> Tensor:
        """Maps (B, C_i, h_i, w_i), fine to coarse, to (B, ``decoder.out_channels``, h, w)."""
        decoded: Tensor = self.decoder([*features[:-1], self.transfer(features[-1])])
        return decoded
