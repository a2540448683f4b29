"""MKD: two students and two mean teachers that cross-supervise, with augmentation in feature space."""

from __future__ import annotations

from typing import Any, Literal, Self

from torch import Tensor, nn

from semiseg.arguments import checked
from semiseg.data.batch import IGNORE, SemiBatch, ViewSpec
from semiseg.methods.base import Parts, StepOutput
from semiseg.methods.branch import AUGMENTED, Branch, set_bn_momentum, targets
from semiseg.methods.networks import frozen_copy
from semiseg.methods.teacher import TeacherMethod
from semiseg.models.segmentor import Segmentor
from semiseg.ops.ema import Ema, TeacherPair
from semiseg.ops.feature_augmentation import ClassStatistics, augmented_logits
from semiseg.ops.losses import cross_entropy
from semiseg.ops.maps import halved, onto_image, onto_map
from semiseg.ops.mixing import box_mask, with_partner
from semiseg.ops.pseudo import PseudoLabels, probabilities
from semiseg.ops.ranges import Share, Weight
from semiseg.ops.schedules import half_cosine


@checked
class MKD(TeacherMethod):
    """Each student learns from the other student and from its teacher, on all images.

    Source: Yuan et al. 2023 (ACM MM, arXiv 2208.11499). Follows the released code of August 2022; the full paper was
        not available. The abstract describes teachers that supervise the other student. Only from the code: the
        student-to-student terms, the shift of the teachers' logits, all values; unknown whether the paper has them.
    Differs from the released code: student logits for both losses come from one pass; teachers get no supervised loss
        (it was computed and discarded); mixing and halving are applied to features before the 1x1 classifier, with
        which they commute; maps with an odd side are halved rounding up; schedules survive a resume.

    Args:
        ema: EMA settings of both teachers; with their own BatchNorm statistics, ``buffers`` should be ``keep``.
        teacher_weight, student_weight: weights of the teacher-to-student and student-to-student terms (CPS).
        conf_threshold: teacher targets below this probability are ignored; the mean is over the rest.
        cross_teacher: a student learns from the other student's teacher; False: from its own.
        augment: whose logits are shifted by feature augmentation: ``both``, ``students``, ``teachers`` or ``none``.
        strength, ramp: lambda of feature augmentation at the end of the run; it grows along a half-cosine, or linearly.
        half_resolution: compare maps at half the decoder's resolution.
        sync_stats: class statistics over all processes, see :class:`ClassStatistics`.
        bn_momentum: momentum of every BatchNorm layer; None: the network's own.
    """

    view_spec = ViewSpec(strong=1, cutmix_law="xor3")

    def __init__(
        self,
        parts: Parts,
        *,
        ema: Ema,
        teacher_weight: Weight = 1.5,
        student_weight: Weight = 1.0,
        conf_threshold: Share = 0.0,
        cross_teacher: bool = True,
        augment: Literal["both", "students", "teachers", "none"] = "both",
        strength: Weight = 1.5,
        ramp: Literal["cosine", "linear"] = "cosine",
        half_resolution: bool = True,
        sync_stats: bool = False,
        bn_momentum: Share | None = None,
    ) -> None:
        super().__init__(parts, ema=ema)
        self.student_b = parts.network()
        self.teacher_b = frozen_copy(self.student_b)
        channels = self.student.classifier.in_channels
        statistics = {n: ClassStatistics(self.num_classes, channels, sync=sync_stats) for n in AUGMENTED[augment]}
        self.statistics = nn.ModuleDict(statistics)
        self.teacher_weight, self.student_weight = teacher_weight, student_weight
        self.conf_threshold, self.cross_teacher = conf_threshold, cross_teacher
        self.strength, self.ramp, self.half_resolution = strength, ramp, half_resolution
        if bn_momentum is not None:
            set_bn_momentum(self, bn_momentum)
        self.train()

    def step(self, batch: SemiBatch) -> StepOutput:
        """Loss = loss_sup + 1.5 loss_teacher + 1.0 loss_students, each the sum over both students."""
        u, size, multiple = batch.unlabeled, batch.labeled.shape[-2:], self.student.encoder.size_multiple
        a, b = self.branches()
        pasted = ~box_mask(u.boxes[0], *size)  # a quarter of the image is kept, the rest comes from the next image
        mixed = with_partner(pasted, u.strong[0], "next")
        student_a, student_b = a.student_maps(batch.labeled, mixed), b.student_maps(batch.labeled, mixed)
        (labeled_a, weak_a), (labeled_b, weak_b) = (x.teacher_maps(batch.labeled, u.weak) for x in (a, b))
        # Maps of the teachers are mixed like the images; predictions for the weak view are for the diagnostics.
        prob_w = probabilities(a.teacher.classifier(self.reduced(weak_a)))
        pasted = onto_map(pasted, weak_a, multiple=multiple, outside=False)
        teacher_a = labeled_a, with_partner(pasted, weak_a, "next")
        teacher_b = labeled_b, with_partner(pasted, weak_b, "next")

        labels = onto_map(batch.labels, prob_w, multiple=multiple, outside=IGNORE)
        z_a, _ = self.logits(a.student, student_a, labels, a.statistics[0])
        z_b, _ = self.logits(b.student, student_b, labels, b.statistics[0])
        teacher_z_a = self.logits(a.teacher, teacher_a, labels, a.statistics[1])
        teacher_z_b = self.logits(b.teacher, teacher_b, labels, b.statistics[1])
        target_a, flipped_a = targets(*teacher_z_a, self.conf_threshold)
        target_b, flipped_b = targets(*teacher_z_b, self.conf_threshold)
        if self.cross_teacher:
            target_a, target_b = target_b, target_a

        logits_a, logits_b = a.student.classify(student_a[0], size), b.student.classify(student_b[0], size)
        loss_sup = self.sup_loss(logits_a, batch.labels) + self.sup_loss(logits_b, batch.labels)
        loss_teacher = cross_entropy(z_a, target_a) + cross_entropy(z_b, target_b)
        loss_students = cross_entropy(z_a, z_b.argmax(1)) + cross_entropy(z_b, z_a.argmax(1))
        confidence, guess = (onto_image(x, size, multiple=multiple) for x in prob_w.max(1))
        pseudo = PseudoLabels(guess, confidence, u.padded)
        terms = {"loss_sup": loss_sup, "loss_teacher": loss_teacher, "loss_students": loss_students}
        return StepOutput(
            loss=loss_sup + self.teacher_weight * loss_teacher + self.student_weight * loss_students,
            terms=terms | {"flipped_ratio": (flipped_a + flipped_b) / 2},
            pseudo=pseudo,
            keep=pseudo.keep(self.conf_threshold),
        )

    def branches(self) -> tuple[Branch, Branch]:
        """The reported student and its teacher, and the other pair."""
        statistics: dict[str, Any] = dict(self.statistics.items())
        a, b, teacher_a, teacher_b = (statistics.get(name) for name in AUGMENTED["both"])
        first = Branch(self.student, self.teacher, (a, teacher_a))
        return first, Branch(self.student_b, self.teacher_b, (b, teacher_b))

    def logits(
        self, network: Segmentor, f: tuple[Tensor, Tensor], labels: Tensor, statistics: ClassStatistics | None
    ) -> tuple[Tensor, Tensor]:
        """Logits with and without feature augmentation, from the maps ``f`` of labeled and unlabeled images."""
        labeled, unlabeled = (self.reduced(x) for x in f)
        return augmented_logits(network.classifier, labeled, unlabeled, labels, statistics, self.strength_now)

    def reduced(self, x: Tensor) -> Tensor:
        """A map at the resolution used for comparing networks."""
        return halved(x) if self.half_resolution else x

    @property
    def strength_now(self) -> float:
        """Lambda of this step: nearly 0 in the first step, ``strength`` in the last."""
        t = min((self.steps_done + 1) / self.max_steps, 1.0)
        return self.strength * (t if self.ramp == "linear" else half_cosine(t))

    def trained(self) -> list[nn.Module]:
        """Both students."""
        return [self.student, self.student_b]

    def evaluated(self) -> dict[str, Segmentor]:
        """The first teacher and the first student, which is reported."""
        return {"teacher": self.teacher, "student": self.student}

    def teacher_pairs(self) -> list[TeacherPair]:
        """Each teacher follows its own student."""
        return [*super().teacher_pairs(), TeacherPair(self.teacher_b, self.student_b, self.ema)]

    def train(self, mode: bool = True) -> Self:
        """Train mode for the teachers too: they use and collect the BatchNorm statistics of their batches."""
        super().train(mode)
        self.teacher.train(mode)
        self.teacher_b.train(mode)
        return self
