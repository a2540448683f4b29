"""A segmentation network that also returns the correlation between all positions of its deepest map."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from semiseg.models.layers import conv_bn_relu, resize
from semiseg.models.segmentor import Segmentor


class Correlated(NamedTuple):
    """Logits of the classifier and logits propagated by correlation, (B, C, H, W) each, and the correlation map."""

    logits: Tensor
    by_correlation: Tensor
    correlation: Tensor  # (B, N, N) float, rows sum to 1; N positions of the deepest map, row by row


class CorrelationSegmentor(Segmentor):
    """A network with a correlation head on the encoder's deepest map. :meth:`forward` does not use it.

    Args:
        network: reused, including its weights.
        width: channels that the head reduces the deepest map to.
        dropout: probability of dropping one of these channels.

    Source: Sun et al. 2024 (CorrMatch), from a description of the released code; none of that code was used.
    """

    def __init__(self, network: Segmentor, *, width: int = 256, dropout: float = 0.1) -> None:
        super().__init__(network.encoder, network.decoder, network.num_classes, classifier=network.classifier)
        self.reduce = nn.Sequential(conv_bn_relu(network.encoder.channels[-1], width, 3), nn.Dropout2d(dropout))
        self.query, self.key = (nn.Conv2d(width, self.num_classes, kernel_size=1) for _ in range(2))

    def correlation(self, features: list[Tensor]) -> Tensor:
        """C = softmax over rows of f1^T f2 / sqrt(K), with f1, f2 (K, N) of the deepest map: (B, N, N) float32."""
        reduced = self.reduce(features[-1])
        query, key = self.query(reduced).flatten(2), self.key(reduced).flatten(2)
        similarity: Tensor = query.transpose(1, 2) @ key / self.num_classes**0.5
        return similarity.softmax(dim=-1, dtype=torch.float32)

    def correlated(self, features: list[Tensor], decoded: Tensor, size: tuple[int, int]) -> Correlated:
        """Both outputs, from maps that are already computed.

        The second output is the first at the size of the deepest map, (K, N) and detached, times C: the output at
        position j is the sum over i of the logits at i times C[i, j].

        Args:
            features: result of :meth:`features`.
            decoded: result of :meth:`decode`.
            size: (H, W) of the images.
        """
        correlation, scores, deepest = self.correlation(features), self.classifier(decoded), features[-1].shape[-2:]
        low = resize(scores.detach().float(), (deepest[0], deepest[1]), align_corners=self.decoder.align_corners)
        mixed = (low.flatten(2) @ correlation).unflatten(2, deepest)
        return Correlated(self.upsample(scores, size), self.upsample(mixed, size), correlation)
