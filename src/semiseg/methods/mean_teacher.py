"""Mean Teacher, CutMix-Seg and ClassMix: agreement with an averaged teacher, on mixed images."""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from semiseg.arguments import checked
from semiseg.data.batch import SemiBatch, Views, ViewSpec
from semiseg.methods.base import Parts, StepOutput
from semiseg.methods.teacher import TeacherMethod
from semiseg.ops.ema import Ema
from semiseg.ops.losses import squared_consistency, unsupervised_cross_entropy
from semiseg.ops.mixing import box_mask, class_mask, cutmix, with_partner
from semiseg.ops.pseudo import probabilities, pseudo_label
from semiseg.ops.ranges import Share, Weight


@checked
class MeanTeacher(TeacherMethod):
    """The student must agree, on a strong view, with an averaged teacher that sees the weak view.

    Source: Tarvainen & Valpola 2017 (Mean Teacher). ``mixing=classmix`` with the other defaults is ClassMix, Olsson et
        al. 2021; ``mixing=cutmix`` with ``consistency=squared`` is CutMix-Seg, French et al. 2020; ``mixing=none`` is
        the plain Mean Teacher.
    Differs from the references: the student always sees the color-jittered strong view; the teacher is in eval mode
        with averaged BatchNorm statistics (CutMix-Seg freezes BatchNorm, ClassMix leaves the teacher in train mode);
        the partner of image i is image B-1-i of the same batch (CutMix-Seg draws a second stream, ClassMix uses i+1).

    Args:
        ema: EMA settings of the teacher.
        mixing: how two strong views are mixed; the teacher's outputs are mixed with the same mask.
        consistency: ``squared`` distance of probabilities summed over classes, or ``ce`` against hard labels.
        conf_threshold: minimum confidence.
        conf_mode: ``rate``: the loss is scaled by the fraction of confident pixels in the batch (CutMix-Seg);
            ``pixel``: only confident pixels count; ``none``.
        unsup_weight: weight of the consistency loss.
    """

    view_spec = ViewSpec(strong=1)

    def __init__(
        self,
        parts: Parts,
        *,
        ema: Ema,
        mixing: Literal["none", "cutmix", "classmix"] = "classmix",
        consistency: Literal["squared", "ce"] = "ce",
        conf_threshold: Share = 0.968,
        conf_mode: Literal["rate", "pixel", "none"] = "rate",
        unsup_weight: Weight = 1.0,
    ) -> None:
        super().__init__(parts, ema=ema)
        self.mixing, self.consistency, self.conf_mode = mixing, consistency, conf_mode
        self.conf_threshold, self.unsup_weight = conf_threshold, unsup_weight

    def step(self, batch: SemiBatch) -> StepOutput:
        """Loss = loss_sup + unsup_weight * consistency(student(mixed strong), mixed teacher(weak))."""
        u = batch.unlabeled
        prob = probabilities(self.teacher_logits(u.weak))
        pseudo = pseudo_label(prob, u.padded)
        from_partner = self.mix_mask(u, pseudo.labels)
        strong, target = cutmix(u, pseudo, mask=from_partner)

        logits_l, logits_u = self.student_logits(batch.labeled, strong)
        loss_sup = self.sup_loss(logits_l, batch.labels)

        confident = target.keep(self.conf_threshold)
        keep = confident if self.conf_mode == "pixel" else ~target.padded
        if self.consistency == "ce":
            loss_unsup = unsupervised_cross_entropy(logits_u, target.labels, keep, target.padded, denominator="all")
        else:
            loss_unsup = squared_consistency(logits_u, with_partner(from_partner, prob, "flip"), keep)
        if self.conf_mode == "rate":
            loss_unsup = loss_unsup * confident.float().mean()
        return StepOutput(
            loss=loss_sup + self.unsup_weight * loss_unsup,
            terms={"loss_sup": loss_sup, "loss_unsup": loss_unsup},
            pseudo=pseudo,
            keep=pseudo.keep(0.0 if self.conf_mode == "none" else self.conf_threshold),
        )

    def mix_mask(self, u: Views, labels: Tensor) -> Tensor:
        """(B, H, W) bool: pixels that come from the partner image."""
        height, width = labels.shape[-2:]
        if self.mixing == "cutmix":
            return box_mask(u.boxes[0], height, width)
        if self.mixing == "classmix":
            return ~class_mask(labels, u.class_scores[0], u.padded)
        return u.padded.new_zeros(u.padded.shape)
