"""MKD: two students and two mean teachers that teach across, with augmentation in feature space."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from semiseg.data.batch import IGNORE, SemiBatch, ViewSpec
from semiseg.methods.base import Parts, SemiMethod, StepOutput, frozen_copy
from semiseg.models.segmentor import Segmentor
from semiseg.ops.ema import Ema, TeacherPair
from semiseg.ops.feature_augmentation import ClassStatistics, logit_shift
from semiseg.ops.losses import cross_entropy
from semiseg.ops.maps import following, halved, onto_image, onto_map
from semiseg.ops.mixing import box_mask, paste
from semiseg.ops.pseudo import PseudoLabels, probabilities

AUGMENTED = {
    "both": ("student", "student_b", "teacher", "teacher_b"),
    "students": ("student", "student_b"),
    "teachers": ("teacher", "teacher_b"),
    "none": (),
}


class MKD(SemiMethod):
    """Each student learns from the teacher of the other student and from the other student, on all images.

    Source: Yuan et al. 2023 (ACM MM, arXiv 2208.11499). The released code of August 2022 was followed; the body of the
        paper was not at hand. The abstract has teachers that supervise the other student. From the code alone: the
        student-to-student terms, the shift of the teachers' logits, all numbers; whether the paper of 2023 has them is
        unknown.
    Differs from the released code: student logits are upsampled from one pass for both losses; teachers get no
        supervised loss (it was computed and thrown away); mixing and halving are done on features ahead of the 1x1
        classifier, with which they commute; maps with an odd side are halved rounding up; schedules survive a resume.
        Model, transforms and optimizer are the project's unless chosen (``transforms=mkd``); dropout, where a network
        has any, is active in the teachers too.

    Args:
        ema: how both teachers follow; their BatchNorm statistics are their own, so ``buffers`` should be ``keep``.
        teacher_weight: weight of the two teacher-to-student terms.
        student_weight: weight of the two student-to-student terms (CPS).
        conf_threshold: teacher targets below this probability, in [0, 1], are not learned; the mean is over the rest.
        cross_teacher: a student learns from the other student's teacher; False: from its own.
        augment: whose logits are shifted by feature augmentation: ``both``, ``students``, ``teachers`` or ``none``.
        strength: lambda of feature augmentation at the end of the run.
        ramp: how it grows from 0: along half a ``cosine``, or ``linear``.
        half_resolution: compare maps at half the decoder's resolution.
        sync_stats: class statistics over all processes, see :class:`ClassStatistics`.
        bn_momentum: momentum of every BatchNorm layer; None: as the network has it.

    Raises:
        ValueError: an argument out of its range.
    """

    view_spec = ViewSpec(strong=1, cutmix_law="xor3")

    def __init__(
        self,
        parts: Parts,
        *,
        ema: Ema,
        teacher_weight: float = 1.5,
        student_weight: float = 1.0,
        conf_threshold: float = 0.0,
        cross_teacher: bool = True,
        augment: Literal["both", "students", "teachers", "none"] = "both",
        strength: float = 1.5,
        ramp: Literal["cosine", "linear"] = "cosine",
        half_resolution: bool = True,
        sync_stats: bool = False,
        bn_momentum: float | None = None,
    ) -> None:
        for key, value, allowed in (("augment", augment, AUGMENTED), ("ramp", ramp, ("cosine", "linear"))):
            if value not in allowed:
                raise ValueError(f"method.{key}={value!r}: allowed are {', '.join(allowed)}")
        for key, number, most in (
            ("conf_threshold", conf_threshold, 1),
            ("strength", strength, math.inf),
            ("bn_momentum", bn_momentum, 1),
        ):
            if number is not None and not 0 <= number <= most:
                raise ValueError(f"method.{key}={number}: allowed are numbers from 0 to {most}")
        super().__init__(parts, ema=ema)
        self.student_b = parts.network()
        self.teacher_b = frozen_copy(self.student_b)
        channels = self.student.classifier.in_channels
        self.statistics = nn.ModuleDict(
            {name: ClassStatistics(self.num_classes, channels, sync=sync_stats) for name in AUGMENTED[augment]}
        )
        self.teacher_weight, self.student_weight = teacher_weight, student_weight
        self.conf_threshold, self.cross_teacher = conf_threshold, cross_teacher
        self.strength, self.ramp, self.half_resolution = strength, ramp, half_resolution
        if bn_momentum is not None:
            for module in self.modules():
                if isinstance(module, _BatchNorm):
                    module.momentum = bn_momentum
        self.train()

    def step(self, batch: SemiBatch) -> StepOutput:
        """Loss = loss_sup + 1.5 loss_teacher + 1.0 loss_students, each the sum over both students."""
        u, size, multiple = batch.unlabeled, batch.labeled.shape[-2:], self.student.encoder.size_multiple
        own = box_mask(u.boxes[0], *size)  # a quarter of the image stays, the rest comes from the next image
        mixed = paste(own, u.strong[0], following(u.strong[0]))
        f_a, f_b = (maps(student, batch.labeled, mixed) for student in (self.student, self.student_b))
        with torch.no_grad():
            t_a, t_b = (maps(teacher, batch.labeled, u.weak) for teacher in (self.teacher, self.teacher_b))
            prob_w = probabilities(self.teacher.classifier(self.reduced(t_a[1])))
            own = onto_map(own, t_a[1], multiple=multiple, outside=True)
            t_a[1], t_b[1] = (paste(own, t[1], following(t[1])) for t in (t_a, t_b))

        labels = onto_map(batch.labels, prob_w, multiple=multiple, outside=IGNORE)
        (z_a, _), (z_b, _), teacher_a, teacher_b = (
            self.logits(name, f, labels) for name, f in zip(AUGMENTED["both"], (f_a, f_b, t_a, t_b))
        )
        (target_a, flipped_a), (target_b, flipped_b) = self.targets(*teacher_a), self.targets(*teacher_b)
        if self.cross_teacher:
            target_a, target_b = target_b, target_a

        logits_a, logits_b = self.student.classify(f_a[0], size), self.student_b.classify(f_b[0], size)
        loss_sup = self.sup_loss(logits_a, batch.labels) + self.sup_loss(logits_b, batch.labels)
        loss_teacher = cross_entropy(z_a, target_a) + cross_entropy(z_b, target_b)
        loss_students = cross_entropy(z_a, z_b.argmax(1)) + cross_entropy(z_b, z_a.argmax(1))
        # The teacher on the weak view ahead of any mixing, at the size of the image, for the diagnostics.
        confidence, guess = (onto_image(x, size, multiple=multiple) for x in prob_w.max(1))
        pseudo = PseudoLabels(guess, confidence, u.padded)
        return StepOutput(
            loss=loss_sup + self.teacher_weight * loss_teacher + self.student_weight * loss_students,
            terms={
                "loss_sup": loss_sup,
                "loss_teacher": loss_teacher,
                "loss_students": loss_students,
                "flipped_ratio": (flipped_a + flipped_b) / 2,
            },
            pseudo=pseudo,
            keep=pseudo.keep(self.conf_threshold),
        )

    def logits(self, name: str, f: list[Tensor], labels: Tensor) -> tuple[Tensor, Tensor]:
        """Logits of one network with and without feature augmentation, both (B_l + B_u, C, h', w') float32.

        The class of a pixel is its label, and the network's own guess in unlabeled images. The statistics meet the
        labeled part first, so that its shift does not depend on the unlabeled part.

        Args:
            name: of the network.
            f: its maps (B_l, A, h, w) and (B_u, A, h, w) of labeled and unlabeled images.
            labels: (B_l, h', w') long in [0, C) or ``IGNORE``.
        """
        classifier = self.get_submodule(name).classifier
        f = [self.reduced(x) for x in f]
        plain = classifier(torch.cat(f)).float()
        if name not in self.statistics:
            return plain, plain
        statistics, shifts = self.statistics[name], []
        for x, y in zip(f, (labels, plain[len(labels) :].argmax(1))):
            statistics.update(x, y)
            shifts.append(logit_shift(statistics.table(classifier.weight.flatten(1)), y, self.strength_now))
        return plain + torch.cat(shifts), plain

    def targets(self, shifted: Tensor, plain: Tensor) -> tuple[Tensor, Tensor]:
        """Classes by the shifted logits, (B, h', w') long, ``IGNORE`` where the plain ones are unsure.

        The second result is the share of pixels that feature augmentation has turned to another class.
        """
        labels = shifted.argmax(1)
        flipped = (labels != plain.argmax(1)).float().mean()
        if self.conf_threshold > 0:
            labels = labels.masked_fill(probabilities(plain).amax(1) < self.conf_threshold, IGNORE)
        return labels, flipped

    def reduced(self, x: Tensor) -> Tensor:
        """A map at the resolution at which networks are compared."""
        return halved(x) if self.half_resolution else x

    @property
    def strength_now(self) -> float:
        """Lambda of this step: nearly 0 in the first, ``strength`` in the last."""
        t = min((self.steps_done + 1) / self.max_steps, 1.0)
        return self.strength * (t if self.ramp == "linear" else (1 - math.cos(math.pi * t)) / 2)

    def trained(self) -> list[nn.Module]:
        """Both students."""
        return [self.student, self.student_b]

    def evaluated(self) -> dict[str, Segmentor]:
        """The first teacher, and the first student: the one that is reported."""
        networks = super().evaluated()
        return {name: networks[name] for name in ("teacher", "student")}

    def teacher_pairs(self) -> list[TeacherPair]:
        """Each teacher follows its own student."""
        return [*super().teacher_pairs(), TeacherPair(self.teacher_b, self.student_b, self.ema)]

    def train(self, mode: bool = True) -> MKD:
        """Train mode for the teachers too: they use, and collect, the BatchNorm statistics of their batches."""
        super().train(mode)
        for pair in self.teacher_pairs():
            pair.teacher.train(mode)
        return self


def maps(network: Segmentor, labeled: Tensor, unlabeled: Tensor) -> list[Tensor]:
    """What the classifier reads, (B, A, h, w) of each; two passes, for each has BatchNorm statistics of its own."""
    return [network.decode(network.features(x)) for x in (labeled, unlabeled)]
