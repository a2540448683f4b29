"""Encoders behind one interface: timm's ResNet, ConvNeXt and DINOv2 ViT, and SegFormer's MiT."""

from __future__ import annotations

import difflib
import re
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from semiseg.errors import InputError, suggest
from semiseg.models.weights import Convert, hub_errors, load_encoder_weights

DINOV2 = {
    "dinov2_s": ("vit_small_patch14_dinov2", (2, 5, 8, 11)),
    "dinov2_b": ("vit_base_patch14_dinov2", (2, 5, 8, 11)),
    "dinov2_l": ("vit_large_patch14_dinov2", (4, 11, 17, 23)),
}
"""timm's name, and the blocks whose output is tapped (counted from 0), as in UniMatch V2."""

MIT = ("mit_b0", "mit_b1", "mit_b2", "mit_b3", "mit_b4", "mit_b5")
OUTPUT_STRIDES = (8, 16, 32)


class Encoder(nn.Module, ABC):
    """Image to feature pyramid.

    Args:
        channels: of each map, fine to coarse.
        reductions: image size over map size, for each map.
        size_multiple: height and width of the image must divide by it; 1 where any size will do.
    """

    def __init__(self, channels: Sequence[int], reductions: Sequence[int], size_multiple: int = 1) -> None:
        super().__init__()
        self.channels = tuple(channels)
        self.reductions = tuple(reductions)
        self.size_multiple = size_multiple
        self.frozen = False

    @abstractmethod
    def forward(self, x: Tensor) -> list[Tensor]:
        """Images (B, 3, H, W) to maps (B, channels[i], ceil(H / reductions[i]), ceil(W / reductions[i]))."""

    def freeze(self) -> None:
        """Stop training for good: no gradients, and evaluation mode whatever mode the network is in."""
        self.frozen = True
        self.requires_grad_(False)
        self.eval()

    def train(self, mode: bool = True) -> Encoder:
        """Set training mode, unless frozen."""
        return super().train(mode and not self.frozen)


class TimmEncoder(Encoder):
    """Chosen intermediate maps of a timm model.

    Args:
        model: any timm model with ``forward_intermediates``, its classifier removed.
        indices: which of its intermediate maps to return.
        size_multiple: see :class:`Encoder`.
        norm: apply the model's final norm to every map (transformers).
    """

    def __init__(self, model: Any, indices: Sequence[int], *, size_multiple: int = 1, norm: bool = False):
        info = [model.feature_info[i] for i in indices]
        super().__init__([i["num_chs"] for i in info], [i["reduction"] for i in info], size_multiple)
        self.model = model
        self.indices = list(indices)
        self.norm = norm

    def forward(self, x: Tensor) -> list[Tensor]:
        """See :class:`Encoder`."""
        return self.model.forward_intermediates(x, indices=self.indices, norm=self.norm, intermediates_only=True)


class MitEncoder(Encoder):
    """SegFormer's Mix Transformer, from segmentation_models_pytorch.

    Args:
        model: a ``MixVisionTransformerEncoder``; it takes images of any size (the library's models do not).
    """

    def __init__(self, model: Any) -> None:
        super().__init__(model.out_channels[2:], (4, 8, 16, 32))
        self.model = model

    def forward(self, x: Tensor) -> list[Tensor]:
        """See :class:`Encoder`."""
        return self.model(x)[2:]  # before them come the image itself and an empty map of stride 2


def build_encoder(
    name: str,
    *,
    output_stride: int | None = None,
    weights: str = "none",
    in_channels: int = 3,
    freeze: bool = False,
) -> Encoder:
    """Build an encoder by name.

    Args:
        name: ``mit_b0`` .. ``mit_b5``; ``dinov2_s``, ``_b``, ``_l``; or timm's name of a ResNet or ConvNeXt,
            such as ``resnet50`` (7x7 stem), ``resnet50s`` (deep stem 64-64-128), ``resnet50c`` (32-32-64),
            ``resnet50d``, ``convnext_tiny``, with timm's weight tag if one is wanted (``resnet50.a1_in1k``).
        output_stride: 8, 16 or 32, image size over coarsest map size; ResNet and ConvNeXt only, 32 if None.
            Strides beyond it become dilations; the first block of a dilated stage keeps the dilation before.
        weights: ``none``: random, as the library initializes; ``hub``: pretrained, from the hub or its local
            cache; else the path of a ``.pth`` or ``.safetensors`` file with weights of exactly this encoder.
        in_channels: of the images. ``hub`` weights of the first layer are adapted, those of a file are not.
        freeze: keep the encoder as it is, see :meth:`Encoder.freeze`.

    Raises:
        InputError: for an unknown name, a stride the encoder cannot have, or weights that are out of reach
            or do not fit.

    Differs from the reference of UniMatch V2: DINOv2's position embedding is fitted to a grid of n x n
    patches by timm's bicubic resize to that size with antialiasing; there it is resized without antialiasing
    and by the factors (n + 0.1) / 37. Equal at 518 x 518, where nothing is resized.
    """
    if name in MIT or name in DINOV2:
        if output_stride is not None:
            raise InputError(
                f"model.encoder={name} has fixed strides and takes no output_stride ({output_stride} given); "
                f"use it with {'segformer' if name in MIT else 'dpt'}, or choose a ResNet or ConvNeXt"
            )
    elif output_stride not in (None, *OUTPUT_STRIDES):
        raise InputError(f"model.output_stride={output_stride}: expected one of {OUTPUT_STRIDES}")
    encoder: Encoder
    if name in MIT:
        encoder = _mit(name, weights, in_channels)
    elif name in DINOV2:
        encoder = _dinov2(name, weights, in_channels)
    else:
        encoder = _convolutional(name, weights, in_channels, output_stride or 32)
    if freeze:
        encoder.freeze()
    return encoder


def _mit(name: str, weights: str, in_channels: int) -> MitEncoder:
    from segmentation_models_pytorch.encoders import get_encoder  # takes seconds

    if weights == "hub":
        with hub_errors(name, f"smp-hub/{name}.imagenet"):
            return MitEncoder(get_encoder(name, in_channels, weights="imagenet"))
    model = get_encoder(name, in_channels, weights=None)
    if weights != "none":
        load_encoder_weights(model, weights, name=name)
    return MitEncoder(model)


def _dinov2(name: str, weights: str, in_channels: int) -> TimmEncoder:
    from timm.models.vision_transformer import checkpoint_filter_fn

    timm_name, taps = DINOV2[name]
    model = _timm_model(
        name,
        timm_name,
        weights,
        taps,
        convert=checkpoint_filter_fn,  # reads the authors' files too, and refits the position embedding
        in_chans=in_channels,
        dynamic_img_size=True,
        init_values=1.0,  # LayerScale as its authors start it; timm's 1e-5 would switch a random network off
    )
    return TimmEncoder(model, taps, size_multiple=14, norm=True)


def _convolutional(name: str, weights: str, in_channels: int, output_stride: int) -> TimmEncoder:
    import timm
    from timm.models.convnext import checkpoint_filter_fn

    architecture, _, tag = name.partition(".")
    families = timm.list_models(["resnet*", "convnext*"])
    known = [n for n in families if re.fullmatch(r"resnet\d+[cdst]?|convnext.*", n)]
    if architecture not in known:
        close = difflib.get_close_matches(architecture, [*MIT, *DINOV2, *known], n=1)
        hint = f"did you mean '{close[0]}'? " if close else ""
        raise InputError(
            f"unknown model.encoder '{name}': {hint}expected mit_b0 .. mit_b5, dinov2_s, dinov2_b, dinov2_l, "
            "or timm's name of a ResNet or ConvNeXt, such as resnet50, resnet50s, convnext_tiny"
        )
    if tag and name not in (tagged := timm.list_pretrained(f"{architecture}.*")):
        raise InputError(f"unknown weight tag in model.encoder '{name}': {suggest(name, tagged)}")
    arguments: dict[str, Any] = {"in_chans": in_channels, "output_stride": output_stride}
    if architecture.startswith("resnet"):
        indices = (1, 2, 3, 4)  # 0 is the stem
        return TimmEncoder(_timm_model(name, name, weights, indices, **arguments), indices)
    indices = (0, 1, 2, 3)
    model = _timm_model(name, name, weights, indices, convert=checkpoint_filter_fn, **arguments)
    # The patch convolutions have no padding: at other sizes they would drop the last pixels.
    return TimmEncoder(model, indices, size_multiple=output_stride)


def _timm_model(
    name: str,
    timm_name: str,
    weights: str,
    indices: Sequence[int],
    *,
    convert: Convert | None = None,
    **arguments: Any,
) -> nn.Module:
    """Create a timm model without its classifier and what else the maps ``indices`` do not need."""
    import timm

    if weights == "hub":
        with hub_errors(name, f"timm's {timm_name}"):
            model: Any = timm.create_model(timm_name, pretrained=True, num_classes=0, **arguments)
    else:
        model = timm.create_model(timm_name, pretrained=False, num_classes=0, **arguments)
    model.prune_intermediate_layers(list(indices))
    if weights not in ("none", "hub"):
        load_encoder_weights(model, weights, name=name, convert=convert)
    return model
