"""A segmentation network with a second output: a vector for every pixel of the decoder's map."""

from __future__ import annotations

from torch import Tensor, nn

from semiseg.models.layers import fresh_copy
from semiseg.models.segmentor import Segmentor


class RepresentationSegmentor(Segmentor):
    """A network with a representation head next to the classifier, for contrastive methods.

    The head consists of a copy of the decoder's last convolutions, with separate weights, and a 1x1 convolution with
    bias. :meth:`forward` does not use it.

    Args:
        network: reused, including its weights.
        dim: channels E of a representation.
    """

    def __init__(self, network: Segmentor, dim: int) -> None:
        super().__init__(network.encoder, network.decoder, network.num_classes, classifier=network.classifier)
        self.representation = nn.Sequential(
            fresh_copy(self.decoder.refine), nn.Conv2d(self.decoder.out_channels, dim, kernel_size=1)
        )

    def logits_and_representation(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Images (B, 3, H, W) to logits and representations at the decoder's size, in one forward pass.

        Returns:
            (B, C, h, w) logits before they are resized, and (B, E, h, w) representations, not normalized.
        """
        features = self.features(x)
        joined = self.decoder.join(features, self.decoder.context(features))
        return self.classifier(self.decoder.refine(joined)), self.representation(joined)
