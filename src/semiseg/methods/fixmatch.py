"""FixMatch for segmentation: confident labels of the weak view supervise the strong view."""

from __future__ import annotations

from typing import Literal

from semiseg.arguments import checked
from semiseg.data.batch import SemiBatch, Views, ViewSpec
from semiseg.methods.base import Parts, SemiMethod, StepOutput
from semiseg.methods.networks import eval_logits
from semiseg.ops.ema import Ema
from semiseg.ops.losses import unsupervised_cross_entropy
from semiseg.ops.mixing import cutmix
from semiseg.ops.pseudo import PseudoLabels, probabilities, pseudo_label
from semiseg.ops.ranges import Share, Weight


@checked
class FixMatch(SemiMethod):
    """Weak-to-strong consistency with a confidence threshold and CutMix.

    Source: Sohn et al. 2020, Algorithm 1; pixel-wise as in the code of UniMatch (``ema=null``: the student labels its
        own weak view, in train mode) and of UniMatch V2 (with ``ema``: a teacher in eval mode does).
    Differs from the references: CutMix pastes image B-1-i of the same batch, as in UniMatch V2;
        ``cutmix_partner=same_image`` is what the UniMatch code does.

    Args:
        conf_threshold: minimum confidence: 0.95, and 0 on Cityscapes.
        unsup_weight: weight of the unlabeled loss before the sum is halved.
        cutmix_partner: image that CutMix pastes from: ``flip``, image B-1-i of the batch; ``same_image``, another
            augmentation of the same image; ``other``, another unlabeled image.
        ema: EMA settings of the teacher; None: no teacher.
    """

    def __init__(
        self,
        parts: Parts,
        *,
        conf_threshold: Share = 0.95,
        unsup_weight: Weight = 1.0,
        cutmix_partner: Literal["flip", "same_image", "other"] = "flip",
        ema: Ema | None = None,
    ) -> None:
        super().__init__(parts, ema=ema)
        self.view_spec = ViewSpec(strong=1, partner=cutmix_partner)
        self.conf_threshold, self.unsup_weight = conf_threshold, unsup_weight

    def step(self, batch: SemiBatch) -> StepOutput:
        """Loss = (loss_sup + unsup_weight * loss_unsup) / 2."""
        u, p = batch.unlabeled, batch.partner
        # Before the training passes, which update the BatchNorm statistics.
        partner = None if p is None else (p, self.eval_labels(p))
        if self.teacher is not None:
            pseudo = self.eval_labels(u)
            strong, target = cutmix(u, pseudo, partner=partner)
            logits_l, logits_s = self.student_logits(batch.labeled, strong)
        else:
            # The weak view in train mode provides clean BatchNorm statistics in addition to the strong view.
            logits_l, logits_w = self.student_logits(batch.labeled, u.weak)
            pseudo = pseudo_label(probabilities(logits_w), u.padded)
            strong, target = cutmix(u, pseudo, partner=partner)
            logits_s = self.student(strong)

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

    def eval_labels(self, views: Views) -> PseudoLabels:
        """Pseudo-labels of weak views by the teacher, or by the student in eval mode."""
        labeler = self.student if self.teacher is None else self.teacher
        return pseudo_label(probabilities(eval_logits(labeler, views.weak)), views.padded)
