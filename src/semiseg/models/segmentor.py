"""A segmentation network of three replaceable parts: encoder, decoder, classifier."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional as F

from semiseg.errors import InputError
from semiseg.models.decoders.base import Decoder
from semiseg.models.encoders import Encoder
from semiseg.models.layers import resize


class Segmentor(nn.Module):
    """Encoder, decoder and a 1x1 classifier; logits at input size for any height and width.

    Methods that perturb, mix or read intermediate features call the steps one by one::

        features = model.features(images)
        decoded = model.decode([dropout(f) for f in features])
        logits = model.classify(decoded, images.shape[-2:])

    Encoders with fixed patches need sizes divisible by ``encoder.size_multiple``. ``features`` pads the right and
    bottom with zeros (the mean of normalized images) to such a size, and ``classify`` crops the logits accordingly, so
    pixels stay aligned.

    Args:
        encoder: image to feature pyramid.
        decoder: feature pyramid to the map that the classifier reads.
        num_classes: number of classes C, at least 2.
        classifier: 1x1 convolution with bias, ``decoder.out_channels`` to C; None: a new one.

    Raises:
        InputError: if ``num_classes`` is below 2.
    """

    def __init__(
        self, encoder: Encoder, decoder: Decoder, num_classes: int, *, classifier: nn.Conv2d | None = None
    ) -> None:
        super().__init__()
        if num_classes < 2:
            raise InputError(f"model.num_classes={num_classes}: a segmentation needs at least 2 classes")
        self.encoder = encoder
        self.decoder = decoder
        self.classifier = classifier or nn.Conv2d(decoder.out_channels, num_classes, kernel_size=1)
        self.num_classes = num_classes

    def forward(self, x: Tensor) -> Tensor:
        """Images (B, 3, H, W) to logits (B, C, H, W)."""
        height, width = x.shape[-2:]
        return self.classify(self.decode(self.features(x)), (height, width))

    def features(self, x: Tensor) -> list[Tensor]:
        """Images (B, 3, H, W) to the encoder's maps, fine to coarse, channels as ``encoder.channels``."""
        height, width = x.shape[-2:]
        padded_height, padded_width = self._padded_size(height, width)
        if (padded_height, padded_width) != (height, width):
            x = F.pad(x, (0, padded_width - width, 0, padded_height - height))
        features: list[Tensor] = self.encoder(x)
        return features

    def decode(self, features: list[Tensor]) -> Tensor:
        """Encoder maps to the map the classifier reads, (B, ``decoder.out_channels``, h, w)."""
        decoded: Tensor = self.decoder(features)
        return decoded

    def classify(self, decoded: Tensor, size: Sequence[int]) -> Tensor:
        """Map of :meth:`decode` to logits (B, C, H, W).

        Args:
            decoded: (B, D, h, w).
            size: (H, W) of the images passed to :meth:`features`, before padding.
        """
        return self.upsample(self.classifier(decoded), size)

    def upsample(self, scores: Tensor, size: Sequence[int]) -> Tensor:
        """Maps (B, C, h, w) at the decoder's size to (B, C, H, W): the second half of :meth:`classify`."""
        height, width = size
        padded_size = self._padded_size(height, width)
        scores = resize(scores, padded_size, align_corners=self.decoder.align_corners)
        return scores[..., :height, :width]

    def map_size(self, height: int, width: int) -> tuple[int, int]:
        """Height and width of the deepest map of :meth:`features`, for images of this size in pixels."""
        height, width = self._padded_size(height, width)
        reduction = self.encoder.reductions[-1]
        return -(-height // reduction), -(-width // reduction)

    def _padded_size(self, height: int, width: int) -> tuple[int, int]:
        multiple = self.encoder.size_multiple
        # Not -(-height // multiple), as ONNX rounds negative quotients differently.
        return (height + multiple - 1) // multiple * multiple, (width + multiple - 1) // multiple * multiple
