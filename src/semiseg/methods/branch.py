"""One of MKD's two branches: a student and its teacher, with optional feature augmentation of their logits."""

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
"""Value of MKD's ``augment`` option: networks whose logits are shifted."""


@dataclass
class Branch:
    """A student, the teacher that follows it, and the class statistics of their features (None: not augmented)."""

    student: Segmentor
    teacher: Segmentor
    statistics: tuple[ClassStatistics | None, ClassStatistics | None]

    def student_maps(self, labeled: Tensor, unlabeled: Tensor) -> tuple[Tensor, Tensor]:
        """Inputs of the student's classifier, (B, A, h, w), for labeled and unlabeled images."""
        return _maps(self.student, labeled, unlabeled)

    @torch.no_grad()
    def teacher_maps(self, labeled: Tensor, unlabeled: Tensor) -> tuple[Tensor, Tensor]:
        """The same for the teacher, without gradients."""
        return _maps(self.teacher, labeled, unlabeled)


def targets(shifted: Tensor, plain: Tensor, conf_threshold: float) -> tuple[Tensor, Tensor]:
    """Argmax of the shifted logits, (B, h, w) long, ``IGNORE`` where the plain logits are not confident.

    The second result is the fraction of pixels whose class was changed by feature augmentation.
    """
    labels = shifted.argmax(1)
    flipped = (labels != plain.argmax(1)).float().mean()
    if conf_threshold > 0:
        labels = labels.masked_fill(probabilities(plain).amax(1) < conf_threshold, IGNORE)
    return labels, flipped


def set_bn_momentum(module: nn.Module, momentum: float) -> None:
    """Set the momentum of every BatchNorm layer in ``module``."""
    for layer in module.modules():
        if isinstance(layer, nn.modules.batchnorm._BatchNorm):
            layer.momentum = momentum


def _maps(network: Segmentor, labeled: Tensor, unlabeled: Tensor) -> tuple[Tensor, Tensor]:
    # Two passes, as each has its own BatchNorm statistics.
    return network.decode(network.features(labeled)), network.decode(network.features(unlabeled))
