"""Blocks shared by several networks."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager

from torch import Tensor, nn
from torch.nn import functional as F


def conv_bn_relu(
    in_channels: int, out_channels: int, kernel_size: int = 1, *, stride: int = 1, dilation: int = 1
) -> nn.Sequential:
    """Convolution without bias that preserves the size at stride 1, batch norm, ReLU."""
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
    """A copy of a module with new random weights, by PyTorch's default initialization of each layer."""
    other = copy.deepcopy(module)
    for layer in other.modules():
        if hasattr(layer, "reset_parameters"):
            layer.reset_parameters()  # type: ignore[operator]
    return other


@contextmanager
def kept_statistics(*networks: nn.Module) -> Iterator[None]:
    """Batch norm works as usual inside this context, but does not update its running mean and variance.

    For inputs that differ from those at inference. ``num_batches_tracked`` still increases.
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
