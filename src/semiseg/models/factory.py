"""The networks by name, from plain numbers: what ``conf/model`` points at."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from semiseg.errors import InputError, suggest
from semiseg.models.decoders import DeepLabV3Decoder, DeepLabV3PlusDecoder, DPTDecoder, SegFormerDecoder
from semiseg.models.encoders import DINOV2, build_encoder
from semiseg.models.segmentor import Segmentor
from semiseg.models.tiny import PyramidDecoder, TinyEncoder


def deeplabv3(
    encoder: str,
    num_classes: int,
    *,
    output_stride: int = 8,
    aspp_rates: Sequence[int] = (12, 24, 36),
    width: int = 512,
    dropout: float = 0.1,
    weights: str = "none",
    in_channels: int = 3,
    freeze_encoder: bool = False,
) -> Segmentor:
    """DeepLabv3 on a ResNet or ConvNeXt.

    With ``resnet50c`` | ``resnet101c`` (stem 32-32-64, mmsegmentation's "v1c") it is the network of GuidedMix-Net's
    code: a head of 42.2 M parameters at 21 classes. Arguments as in :class:`DeepLabV3Decoder` and
    :func:`build_encoder`.
    """
    backbone = build_encoder(
        encoder, output_stride=output_stride, weights=weights, in_channels=in_channels, freeze=freeze_encoder
    )
    decoder = DeepLabV3Decoder(backbone.channels, aspp_rates=aspp_rates, width=width, dropout=dropout)
    model = Segmentor(backbone, decoder, num_classes)
    nn.init.normal_(model.classifier.weight, std=0.01)
    nn.init.zeros_(model.classifier.bias)  # type: ignore[arg-type]
    return model


def deeplabv3plus(
    encoder: str,
    num_classes: int,
    *,
    output_stride: int = 16,
    aspp_rates: Sequence[int] = (6, 12, 18),
    width: int = 256,
    low_level_width: int = 48,
    dropout: float = 0.0,
    weights: str = "none",
    in_channels: int = 3,
    freeze_encoder: bool = False,
) -> Segmentor:
    """DeepLabv3+ on a ResNet or ConvNeXt.

    With ``resnet50s`` and ``resnet101s``, output stride 16 and rates (6, 12, 18) it is the network of
    UniMatch: 40.5 M and 59.5 M parameters at 21 classes. Arguments as in :class:`DeepLabV3PlusDecoder` and
    :func:`build_encoder`.
    """
    backbone = build_encoder(
        encoder, output_stride=output_stride, weights=weights, in_channels=in_channels, freeze=freeze_encoder
    )
    decoder = DeepLabV3PlusDecoder(
        backbone.channels, aspp_rates=aspp_rates, width=width, low_level_width=low_level_width, dropout=dropout
    )
    return Segmentor(backbone, decoder, num_classes)


def segformer(
    encoder: str,
    num_classes: int,
    *,
    width: int = 768,
    dropout: float = 0.1,
    weights: str = "none",
    in_channels: int = 3,
    freeze_encoder: bool = False,
) -> Segmentor:
    """SegFormer: all-MLP head on a MiT, or on any encoder with a pyramid of maps.

    The authors' width is 256 for B0 and B1, 768 for the others. Arguments as in :class:`SegFormerDecoder` and
    :func:`build_encoder`.
    """
    backbone = build_encoder(encoder, weights=weights, in_channels=in_channels, freeze=freeze_encoder)
    return Segmentor(backbone, SegFormerDecoder(backbone.channels, width=width, dropout=dropout), num_classes)


def dpt(
    encoder: str,
    num_classes: int,
    *,
    width: int,
    level_channels: Sequence[int],
    weights: str = "none",
    in_channels: int = 3,
    freeze_encoder: bool = False,
) -> Segmentor:
    """DPT head on a DINOv2 transformer, the network of UniMatch V2.

    Arguments as in :class:`DPTDecoder` and :func:`build_encoder`.

    Raises:
        InputError: if the encoder is not a DINOv2 transformer.
    """
    if encoder not in DINOV2:
        raise InputError(f"model.encoder '{encoder}' has no maps of one size, as dpt needs: {suggest(encoder, DINOV2)}")
    backbone = build_encoder(encoder, weights=weights, in_channels=in_channels, freeze=freeze_encoder)
    return Segmentor(backbone, DPTDecoder(backbone.channels, width=width, level_channels=level_channels), num_classes)


def tiny(num_classes: int, *, width: int = 16, in_channels: int = 3) -> Segmentor:
    """A small residual pyramid for images of about 64 pixels on a CPU: 0.3 M parameters, random at the start.

    Args:
        num_classes: number of classes.
        width: channels of the first encoder map; the others, and the cost, follow from it.
        in_channels: of the images.
    """
    encoder = TinyEncoder(width=width, in_channels=in_channels)
    model = Segmentor(encoder, PyramidDecoder(encoder.channels, width=2 * width), num_classes)
    # A convolution follows the layout of its weights whatever the input's: a quarter less time on a CPU.
    return model.to(memory_format=torch.channels_last)
