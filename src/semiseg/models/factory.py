"""Functions that build networks from plain arguments; the targets of ``conf/model``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import torch
from pydantic import Field
from torch import nn

from semiseg.arguments import checked
from semiseg.errors import InputError, suggest
from semiseg.models.adapt import Adapt, adapt_encoder
from semiseg.models.decoders import DeepLabV3Decoder, DeepLabV3PlusDecoder, DPTDecoder, SegFormerDecoder
from semiseg.models.encoders import build_encoder
from semiseg.models.encoders.build import OutputStride
from semiseg.models.encoders.from_timm import DINO
from semiseg.models.segmentor import Segmentor
from semiseg.models.tiny import PyramidDecoder, TinyEncoder

Classes = Annotated[int, Field(ge=2, le=255)]
Width = Annotated[int, Field(ge=1, le=4096)]
Rates = Annotated[Sequence[Annotated[int, Field(ge=1, le=512)]], Field(min_length=1)]
Dropout = Annotated[float, Field(ge=0, lt=1)]
Channels = Annotated[int, Field(ge=1, le=64)]
Rank = Annotated[int, Field(ge=1, le=1024)]


@checked
def deeplabv3(
    encoder: str,
    num_classes: Classes,
    *,
    output_stride: OutputStride = 8,
    aspp_rates: Rates = (12, 24, 36),
    width: Width = 512,
    dropout: Dropout = 0.1,
    weights: str = "none",
    in_channels: Channels = 3,
    adapt: Adapt = "full",
    lora_rank: Rank = 16,
    freeze_encoder: bool = False,
) -> Segmentor:
    """DeepLabv3 on an encoder with a feature pyramid.

    With ``resnet50c`` | ``resnet101c`` (stem 32-32-64, mmsegmentation's "v1c") it is the network of GuidedMix-Net's
    code: the head has 42.2 M parameters at 21 classes. Arguments as in :class:`DeepLabV3Decoder`,
    :func:`build_encoder` and :func:`adapt_encoder`; ``freeze_encoder`` is the old name of ``adapt=frozen``.
    """
    backbone = build_encoder(encoder, output_stride=output_stride, weights=weights, in_channels=in_channels)
    adapt_encoder(backbone, "frozen" if freeze_encoder else adapt, name=encoder, lora_rank=lora_rank)
    decoder = DeepLabV3Decoder(backbone.channels, aspp_rates=aspp_rates, width=width, dropout=dropout)
    model = Segmentor(backbone, decoder, num_classes)
    nn.init.normal_(model.classifier.weight, std=0.01)
    assert model.classifier.bias is not None
    nn.init.zeros_(model.classifier.bias)
    return model


@checked
def deeplabv3plus(
    encoder: str,
    num_classes: Classes,
    *,
    output_stride: OutputStride = 16,
    aspp_rates: Rates = (6, 12, 18),
    width: Width = 256,
    low_level_width: Width = 48,
    dropout: Dropout = 0.0,
    weights: str = "none",
    in_channels: Channels = 3,
    adapt: Adapt = "full",
    lora_rank: Rank = 16,
    freeze_encoder: bool = False,
) -> Segmentor:
    """DeepLabv3+ on an encoder with a feature pyramid.

    With ``resnet50s`` and ``resnet101s``, output stride 16 and rates (6, 12, 18) it is the network of
    UniMatch: 40.5 M and 59.5 M parameters at 21 classes. Arguments as in :class:`DeepLabV3PlusDecoder`,
    :func:`build_encoder` and :func:`adapt_encoder`; ``freeze_encoder`` is the old name of ``adapt=frozen``.
    """
    backbone = build_encoder(encoder, output_stride=output_stride, weights=weights, in_channels=in_channels)
    adapt_encoder(backbone, "frozen" if freeze_encoder else adapt, name=encoder, lora_rank=lora_rank)
    decoder = DeepLabV3PlusDecoder(
        backbone.channels, aspp_rates=aspp_rates, width=width, low_level_width=low_level_width, dropout=dropout
    )
    return Segmentor(backbone, decoder, num_classes)


@checked
def segformer(
    encoder: str,
    num_classes: Classes,
    *,
    width: Width = 768,
    dropout: Dropout = 0.1,
    weights: str = "none",
    in_channels: Channels = 3,
    adapt: Adapt = "full",
    lora_rank: Rank = 16,
    freeze_encoder: bool = False,
) -> Segmentor:
    """SegFormer: all-MLP head on a MiT, or on any encoder with a feature pyramid.

    The authors' width is 256 for B0 and B1, 768 for the others. Arguments as in :class:`SegFormerDecoder`,
    :func:`build_encoder` and :func:`adapt_encoder`; ``freeze_encoder`` is the old name of ``adapt=frozen``.
    """
    backbone = build_encoder(encoder, weights=weights, in_channels=in_channels)
    adapt_encoder(backbone, "frozen" if freeze_encoder else adapt, name=encoder, lora_rank=lora_rank)
    return Segmentor(backbone, SegFormerDecoder(backbone.channels, width=width, dropout=dropout), num_classes)


@checked
def dpt(
    encoder: str,
    num_classes: Classes,
    *,
    width: Width,
    level_channels: tuple[Width, Width, Width, Width],
    weights: str = "none",
    in_channels: Channels = 3,
    adapt: Adapt = "full",
    lora_rank: Rank = 16,
    freeze_encoder: bool = False,
) -> Segmentor:
    """DPT head on a plain vision transformer; on DINOv2 it is the network of UniMatch V2.

    Arguments as in :class:`DPTDecoder`, :func:`build_encoder` and :func:`adapt_encoder`; ``freeze_encoder`` is the
    old name of ``adapt=frozen``.

    Raises:
        InputError: if the maps of the encoder differ in size.
    """
    backbone = build_encoder(encoder, weights=weights, in_channels=in_channels)
    if not backbone.one_size:
        raise InputError(
            f"model.encoder '{encoder}': dpt needs maps of one size; use a plain vision transformer; "
            f"{suggest(encoder, DINO)}"
        )
    adapt_encoder(backbone, "frozen" if freeze_encoder else adapt, name=encoder, lora_rank=lora_rank)
    return Segmentor(backbone, DPTDecoder(backbone.channels, width=width, level_channels=level_channels), num_classes)


@checked
def tiny(
    num_classes: Classes, *, width: Annotated[int, Field(ge=1, le=512)] = 16, in_channels: Channels = 3
) -> Segmentor:
    """A small residual pyramid for images of about 64 pixels on a CPU: 0.3 M parameters, randomly initialized.

    Args:
        num_classes: number of classes.
        width: channels of the first encoder map; the other widths, and the cost, scale with it.
        in_channels: channels of the images.
    """
    encoder = TinyEncoder(width=width, in_channels=in_channels)
    model = Segmentor(encoder, PyramidDecoder(encoder.channels, width=2 * width), num_classes)
    # A convolution uses the memory layout of its weights, whatever the input's: a quarter less time on a CPU.
    return model.to(memory_format=torch.channels_last)
