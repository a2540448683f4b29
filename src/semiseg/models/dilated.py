"""Dilated depthwise convolutions that train fast on a CPU."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F


class DilatedDepthwiseConv2d(nn.Conv2d):
    """A dilated depthwise convolution, computed on a CPU as an ordinary one of the interleaved subgrids.

    oneDNN has a fast backward pass for depthwise convolutions without dilation only. Pixels that are a multiple of the
    dilation apart form a subgrid, and a dilated kernel never leaves it: with the subgrids as images of their own the
    convolution has no dilation. Outside training, and on other devices, this is a plain ``nn.Conv2d``.

    Args:
        conv: a convolution that :func:`is_dilated_depthwise`; its parameters are shared.
    """

    def __init__(self, conv: nn.Conv2d):
        super().__init__(
            conv.in_channels,
            conv.out_channels,
            conv.kernel_size,  # type: ignore[arg-type]
            padding=conv.padding,  # type: ignore[arg-type]
            dilation=conv.dilation,  # type: ignore[arg-type]
            groups=conv.groups,
            bias=conv.bias is not None,
            device="meta",  # draws no random numbers
        )
        self.weight, self.bias = conv.weight, conv.bias
        self.train(conv.training)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to (B, C, H, W)."""
        if not self.training or x.device.type != "cpu":
            return super().forward(x)
        (b, c, h, w), rate = x.shape, self.dilation[0]
        rows, columns = -(-h // rate), -(-w // rate)
        x = F.pad(x, (0, columns * rate - w, 0, rows * rate - h))
        x = x.permute(0, 2, 3, 1).reshape(b, rows, rate, columns, rate, c)
        x = x.permute(2, 4, 0, 1, 3, 5).reshape(rate * rate * b, rows, columns, c).permute(0, 3, 1, 2)
        x = F.conv2d(x, self.weight, self.bias, padding=self.kernel_size[0] // 2, groups=self.groups)
        x = x.permute(0, 2, 3, 1).reshape(rate, rate, b, rows, columns, c)
        x = x.permute(2, 3, 0, 4, 1, 5).reshape(b, rows * rate, columns * rate, c)
        return x.permute(0, 3, 1, 2)[:, :, :h, :w]


def is_dilated_depthwise(module: nn.Module) -> bool:
    """Whether a module is a dilated depthwise convolution of stride 1 that keeps the size and pads with zeros."""
    if type(module) is not nn.Conv2d or module.groups == 1 or module.groups != module.in_channels:
        return False
    kernel, rate = module.kernel_size[0], module.dilation[0]
    return (
        rate > 1
        and kernel % 2 == 1
        and module.kernel_size == (kernel, kernel)
        and module.dilation == (rate, rate)
        and module.stride == (1, 1)
        and module.padding == (rate * (kernel // 2),) * 2
        and module.padding_mode == "zeros"
    )


def replace_dilated_depthwise(network: nn.Module) -> None:
    """Replace every dilated depthwise convolution of a network by a :class:`DilatedDepthwiseConv2d`."""
    for name, module in list(network.named_modules()):
        if is_dilated_depthwise(module):
            assert isinstance(module, nn.Conv2d)
            network.set_submodule(name, DilatedDepthwiseConv2d(module))
