"""SegFormer's Mix Transformer, from segmentation_models_pytorch."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from torch.nn import functional as F

from semiseg.errors import InputError
from semiseg.models.encoders.base import Encoder
from semiseg.models.weights import hub_errors, load_encoder_weights

MIT = ("mit_b0", "mit_b1", "mit_b2", "mit_b3", "mit_b4", "mit_b5")

SMALLEST = 29
"""Pixels: the smallest size whose finest map has the 8 cells that the kernel of the first stage's reduction needs."""


class MitEncoder(Encoder):
    """Four maps of strides 4, 8, 16 and 32; any size.

    Images below 29 pixels are padded with zeros at the right and bottom, and the maps are cropped to the image.

    Args:
        model: a ``MixVisionTransformerEncoder``, which accepts images of any size (the library's models do not).
    """

    def __init__(self, model: Any) -> None:
        super().__init__(model.out_channels[2:], (4, 8, 16, 32))
        self.model = model

    def forward(self, x: Tensor) -> list[Tensor]:
        """See :class:`Encoder`."""
        height, width = x.shape[-2:]
        small = height < SMALLEST or width < SMALLEST
        if small:
            x = F.pad(x, (0, max(SMALLEST - width, 0), 0, max(SMALLEST - height, 0)))
        maps: list[Tensor] = self.model(x)[2:]  # the first two are the image and an empty map of stride 2
        if small:
            maps = [m[..., : -(-height // r), : -(-width // r)] for m, r in zip(maps, self.reductions, strict=True)]
        return maps


def build_mit(name: str, weights: str, in_channels: int) -> MitEncoder:
    """Build one of :data:`MIT`; arguments as in :func:`build_encoder`."""
    from segmentation_models_pytorch.encoders import get_encoder  # takes seconds

    if weights == "package":
        raise InputError(f"model.weights=package: no such package for encoder '{name}'; use hub or a file")
    if weights == "hub":
        with hub_errors(name, f"smp-hub/{name}.imagenet"):
            return MitEncoder(get_encoder(name, in_channels, weights="imagenet"))
    model = get_encoder(name, in_channels, weights=None)
    if weights != "none":
        load_encoder_weights(model, weights, name=name)
    return MitEncoder(model)
