"""A student and its teacher, whose logits feature augmentation may shift: what MKD trains two of."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from semiseg.models.segmentor import Segmentor
from semiseg.ops.feature_augmentation import ClassStatistics
from semiseg.ops.losses import IGNORE
from semiseg.ops.pseudo import probabilities

AUGMENTED = {
    "both": ("student", "student_b", "teacher", "teacher_b"),
    "students": ("student", "student_b"),
    "teachers": ("teacher", "teacher_b"),
    "none": (),
}
"""Networks of MKD by the option that says whose logits are shifted."""


@dataclass
class Branch:
    """A student, the teacher that follows it, and the class statistics of their features (None: not augmented)."""

    student: Segmentor
    teacher: Segmentor
    statistics: tuple[ClassStatistics | None, ClassStatistics | None]

    def student_maps(self, labeled: Tensor, unlabeled: Tensor) -> tuple[Tensor, Tensor]:
        """What the student's classifier reads, (B, A, h, w), of labeled and unlabeled images."""
        return _maps(self.student, labeled, unlabeled)

    @torch.no_grad()
    def teacher_maps(self, labeled: Tensor, unlabeled: Tensor) -> tuple[Tensor, Tensor]:
        """The same of the teacher, without a graph."""
        return _maps(self.teacher, labeled, unlabeled)


def targets(shifted: Tensor, plain: Tensor, conf_threshold: float) -> tuple[Tensor, Tensor]:
    """Classes by the shifted logits, (B, h, w) long, ``IGNORE`` where the plain ones are unsure.

    The second result is the share of pixels that feature augmentation has turned to another class.
    """
    labels = shifted.argmax(1)
    flipped = (labels != plain.argmax(1)).float().mean()
    if conf_threshold > 0:
        labels = labels.masked_fill(probabilities(plain).amax(1) < conf_threshold, IGNORE)
    return labels, flipped


def set_bn_momentum(module: nn.Module, momentum: float) -> None:
    """Give every BatchNorm layer below ``module`` this momentum."""
    for layer in module.modules():
        if isinstance(layer, nn.modules.batchnorm._BatchNorm):
            layer.momentum = momentum


def _maps(network: Segmentor, labeled: Tensor, unlabeled: Tensor) -> tuple[Tensor, Tensor]:
    # Two passes, for each has BatchNorm statistics of its own.
    return network.decode(network.features(labeled)), network.decode(network.features(unlabeled))
