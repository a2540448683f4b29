"""Networks: encoders, decoders and a classifier."""

from semiseg.models.factory import deeplabv3, deeplabv3plus, dpt, segformer, tiny
from semiseg.models.segmentor import Segmentor

__all__ = ["Segmentor", "deeplabv3", "deeplabv3plus", "dpt", "segformer", "tiny"]
