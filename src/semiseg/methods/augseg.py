"""AugSeg: a mean teacher with adaptive CutMix, and strong views of random intensity."""

from __future__ import annotations

import torch

from semiseg.arguments import checked
from semiseg.data.batch import SemiBatch, ViewSpec
from semiseg.methods.base import Parts, StepOutput
from semiseg.methods.teacher import TeacherMethod
from semiseg.ops.adaptive_cutmix import adaptive_cutmix, certainty
from semiseg.ops.ema import Ema
from semiseg.ops.losses import unsupervised_cross_entropy
from semiseg.ops.pseudo import probabilities, pseudo_label
from semiseg.ops.ranges import Share, ShareBelowOne, Weight
from semiseg.ops.schedules import CopyThenWarmup


@checked
class AugSeg(TeacherMethod):
    """Confident teacher labels supervise strong views, into which labeled images are mixed where the teacher is unsure.

    Source: Zhao et al. 2023 (CVPR, arXiv 2212.04976), values of the released code. Its strong views are
        ``transforms=augseg``.
    Differs from the released code: padding is not learned and is excluded from an image's certainty, but stays in the
        denominator of the loss; the first epoch, in which the teacher is a copy, is a fraction of the run. Omitted:
        weak views in the student's batch (off in the logged runs).

    Args:
        conf_threshold: minimum confidence.
        unsup_weight: weight of the unlabeled loss.
        copy: fraction of the run in which the teacher is a copy of the student.
        max_decay: maximum EMA decay of the teacher.
    """

    view_spec = ViewSpec(strong=1)

    def __init__(
        self,
        parts: Parts,
        *,
        conf_threshold: Share = 0.95,
        unsup_weight: Weight = 1.0,
        copy: Share = 0.0125,
        max_decay: ShareBelowOne = 0.999,
    ) -> None:
        super().__init__(parts, ema=Ema(CopyThenWarmup(0, round(copy * parts.max_steps), max_decay)))
        self.conf_threshold, self.unsup_weight = conf_threshold, unsup_weight

    def step(self, batch: SemiBatch) -> StepOutput:
        """Loss = loss_sup + unsup_weight * loss_unsup, the latter over all pixels."""
        u = batch.unlabeled
        prob = probabilities(self.teacher_logits(u.weak))
        pseudo, sure = pseudo_label(prob, u.padded), certainty(prob, u.padded)
        order = torch.rand_like(sure).argsort()
        mixed, target = adaptive_cutmix(u.strong[0], pseudo, batch.labeled, batch.labels, sure, order)

        logits_l, logits_u = self.student_logits(batch.labeled, mixed)
        loss_sup = self.sup_loss(logits_l, batch.labels)
        loss_unsup = unsupervised_cross_entropy(
            logits_u, target.labels, target.keep(self.conf_threshold), target.padded, denominator="all"
        )
        return StepOutput(
            loss=loss_sup + self.unsup_weight * loss_unsup,
            terms={"loss_sup": loss_sup, "loss_unsup": loss_unsup, "certainty": sure.mean()},
            pseudo=pseudo,
            keep=pseudo.keep(self.conf_threshold),
        )
