"""Encoders: from an image to a feature pyramid, built by name."""

from semiseg.models.encoders.base import Encoder
from semiseg.models.encoders.build import build_encoder, encoder_normalization

__all__ = ["Encoder", "build_encoder", "encoder_normalization"]
