"""FixMatch for segmentation: confident labels of the weak view teach the strong view."""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from semiseg.data.batch import SemiBatch, ViewSpec
from semiseg.methods.base import Parts, SemiMethod, StepOutput, eval_logits
from semiseg.ops.ema import Ema
from semiseg.ops.losses import unsupervised_cross_entropy
from semiseg.ops.mixing import box_mask, paste
from semiseg.ops.pseudo import PseudoLabels, probabilities, pseudo_label


class FixMatch(SemiMethod):
    """Weak-to-strong consistency with a confidence threshold and CutMix.

    Source: Sohn et al. 2020, Algorithm 1; pixel-wise as in the code of UniMatch (``ema=null``: the student labels its
        own weak view, in train mode) and of UniMatch V2 (with ``ema``: a teacher in eval mode does).
    Differs from the references: the image that CutMix pastes is image B-1-i of the same batch, as UniMatch V2 does;
        ``cutmix_partner=same_image`` is what the UniMatch code does.

    Args:
        conf_threshold: confidence from which a pixel is learned, in [0, 1]; 0.95, and 0 on Cityscapes.
        unsup_weight: weight of the unlabeled loss before the sum is halved.
        cutmix_partner: see ``ViewSpec.partner``.
        ema: how a teacher follows, or None for no teacher.
    """

    def __init__(
        self,
        parts: Parts,
        *,
        conf_threshold: float = 0.95,
        unsup_weight: float = 1.0,
        cutmix_partner: Literal["flip", "same_image", "other"] = "flip",
        ema: Ema | None = None,
    ) -> None:
        super().__init__(parts, ema=ema)
        self.view_spec = ViewSpec(strong=1, partner=cutmix_partner)
        self.conf_threshold, self.unsup_weight = conf_threshold, unsup_weight

    def step(self, batch: SemiBatch) -> StepOutput:
        """Loss = (loss_sup + unsup_weight * loss_unsup) / 2."""
        u, p = batch.unlabeled, batch.partner
        box = box_mask(u.boxes[0], *u.weak.shape[-2:])
        strong = paste(box, u.strong[0].flip(0) if p is None else p.strong[0], u.strong[0])

        if self.teacher is not None:
            pseudo = pseudo_label(probabilities(self.teacher_logits(u.weak)), u.padded)
            logits_l, logits_s = self.student_logits(batch.labeled, strong)
        else:
            # The weak view goes through train mode: it supplies clean BatchNorm statistics next to the strong view.
            logits_l, logits_w = self.student_logits(batch.labeled, u.weak)
            pseudo = pseudo_label(probabilities(logits_w), u.padded)
            logits_s = self.student(strong)

        target = pseudo.mixed(box, pseudo.flip() if p is None else self.label_partner(p.weak, p.padded))
        loss_sup = self.sup_loss(logits_l, batch.labels)
        loss_unsup = unsupervised_cross_entropy(
            logits_s, target.labels, target.keep(self.conf_threshold), target.padded
        )
        return StepOutput(
            loss=(loss_sup + self.unsup_weight * loss_unsup) / 2,
            terms={"loss_sup": loss_sup, "loss_unsup": loss_unsup},
            pseudo=pseudo,
            keep=pseudo.keep(self.conf_threshold),
        )

    def label_partner(self, weak: Tensor, padded: Tensor) -> PseudoLabels:
        """Labels of the partner images, by the teacher or by the student in eval mode."""
        labeller = self.student if self.teacher is None else self.teacher
        return pseudo_label(probabilities(eval_logits(labeller, weak)), padded)
