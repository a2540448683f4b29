"""Blocks that several networks share."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager

from torch import Tensor, nn
from torch.nn import functional as F


def conv_bn_relu(
    in_channels: int, out_channels: int, kernel_size: int = 1, *, stride: int = 1, dilation: int = 1
) -> nn.Sequential:
    """Bias-free convolution that keeps the size at stride 1, batch norm, ReLU."""
    padding = dilation * (kernel_size // 2)
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, kernel_size, stride, padding, dilation, bias=False),
        nn.BatchNorm2d(out_channels),
        nn.ReLU(inplace=True),
    )


def with_dropout(block: nn.Sequential, p: float) -> nn.Sequential:
    """``block``, followed by channel dropout if ``p`` is above 0."""
    return block.append(nn.Dropout2d(p)) if p > 0 else block


def resize(x: Tensor, size: tuple[int, int], *, align_corners: bool) -> Tensor:
    """Resize (B, C, h, w) bilinearly to ``size`` = (H, W)."""
    return F.interpolate(x, size, mode="bilinear", align_corners=align_corners)


def fresh_copy(module: nn.Module) -> nn.Module:
    """A module of the same layers with new random weights, as PyTorch initializes each layer."""
    other = copy.deepcopy(module)
    for layer in other.modules():
        if hasattr(layer, "reset_parameters"):
            layer.reset_parameters()  # type: ignore[operator]
    return other


@contextmanager
def kept_statistics(*networks: nn.Module) -> Iterator[None]:
    """Batch norm normalizes as its mode says, but leaves its running mean and variance as they are, for a while.

    For inputs that differ from what the network will meet later. The number of batches seen still counts up.
    """
    norms = [m for network in networks for m in network.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 0.0
    try:
        yield
    finally:
        for norm, momentum in zip(norms, momenta):
            norm.momentum = momentum
