"""Decoders: from the encoder's feature pyramid to the map that the classifier reads."""

from semiseg.models.decoders.base import Decoder
from semiseg.models.decoders.deeplabv3 import DeepLabV3Decoder
from semiseg.models.decoders.deeplabv3plus import DeepLabV3PlusDecoder
from semiseg.models.decoders.dpt import DPTDecoder
from semiseg.models.decoders.segformer import SegFormerDecoder

__all__ = ["DPTDecoder", "Decoder", "DeepLabV3Decoder", "DeepLabV3PlusDecoder", "SegFormerDecoder"]
