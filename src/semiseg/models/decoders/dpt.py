"""DPT: a feature pyramid reassembled from transformer maps of equal size."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from semiseg.models.decoders.base import Decoder
from semiseg.models.layers import resize


class ResidualConvUnit(nn.Module):
    """ReLU, 3x3, ReLU, 3x3, plus the input; no normalization."""

    def __init__(self, width: int) -> None:
        super().__init__()
        # The input is added at the end, so the first ReLU must not overwrite it.
        self.layers = nn.Sequential(
            nn.ReLU(),
            nn.Conv2d(width, width, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(width, width, 3, padding=1),
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B, width, h, w) to the same shape."""
        change: Tensor = self.layers(x)
        return x + change


class DPTDecoder(Decoder):
    """Four maps of equal size are resampled to strides 1/4, 1/2, 1 and 2 of the patch grid and fused coarse to fine.

    The result has 8 times the patch grid's height and width.

    Args:
        channels: channels of the four encoder maps, all of the same height and width.
        width: channels of the fusion and of the result.
        level_channels: channels of the reassembled levels before fusion, fine to coarse.

    Source: Ranftl et al. 2021, "Vision Transformers for Dense Prediction", section 3, with the settings of
    UniMatch V2's code. That code also has an unused residual unit for a skip connection that the coarsest level
    does not have; it is omitted here.
    """

    def __init__(self, channels: Sequence[int], *, width: int, level_channels: Sequence[int]) -> None:
        super().__init__(context_channels=channels[-1], join_channels=width, out_channels=width, align_corners=True)
        fine, half, _, coarse = level_channels
        self.reassemble = nn.ModuleList(
            nn.Sequential(nn.Conv2d(c, level, kernel_size=1), scale, nn.Conv2d(level, width, 3, padding=1, bias=False))
            for c, level, scale in zip(
                channels,
                level_channels,
                (
                    nn.ConvTranspose2d(fine, fine, kernel_size=4, stride=4),
                    nn.ConvTranspose2d(half, half, kernel_size=2, stride=2),
                    nn.Identity(),
                    nn.Conv2d(coarse, coarse, 3, stride=2, padding=1),
                ),
                strict=True,
            )
        )
        self.skip = nn.ModuleList(ResidualConvUnit(width) for _ in level_channels[:-1])
        self.fuse = nn.ModuleList(ResidualConvUnit(width) for _ in level_channels)
        self.project = nn.ModuleList(nn.Conv2d(width, width, kernel_size=1) for _ in level_channels)
        self.refine = nn.Sequential(nn.Conv2d(width, width, 3, padding=1), nn.ReLU(inplace=True))

    def join(self, features: list[Tensor], context: Tensor) -> Tensor:
        """The four levels fused, at 8 times the patch grid, (B, width, h, w)."""
        features = [*features[:-1], context]
        levels = [block(f) for block, f in zip(self.reassemble, features, strict=True)]
        height, width = levels[0].shape[-2:]
        sizes = [(2 * height, 2 * width), *((x.shape[-2], x.shape[-1]) for x in levels[:-1])]
        x: Tensor = levels[-1]
        for i in reversed(range(len(levels))):
            if i < len(self.skip):
                x = x + self.skip[i](levels[i])
            # Published in reverse order; a 1x1 convolution and a bilinear resize commute, and this is cheaper.
            x = resize(self.project[i](self.fuse[i](x)), sizes[i], align_corners=self.align_corners)
        return x
