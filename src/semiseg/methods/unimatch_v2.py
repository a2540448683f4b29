"""UniMatch V2: two strong views with complementary channel dropout, labeled by an averaged teacher."""

from __future__ import annotations

import torch

from semiseg.arguments import checked
from semiseg.data.batch import SemiBatch, ViewSpec
from semiseg.methods.base import Parts, StepOutput
from semiseg.methods.teacher import TeacherMethod
from semiseg.ops.ema import Ema
from semiseg.ops.losses import unsupervised_cross_entropy
from semiseg.ops.mixing import cutmix
from semiseg.ops.perturb import comp_drop
from semiseg.ops.pseudo import probabilities, pseudo_label
from semiseg.ops.ranges import Share, Weight


@checked
class UniMatchV2(TeacherMethod):
    """Confident teacher labels of the weak view supervise two strong views whose features drop complementary channels.

    Source: Yang et al. 2025 (TPAMI, arXiv 2410.10777) and the released code. The paper's networks are DINOv2 with DPT
        (``experiment=unimatch_v2_dinov2``); other networks work as well.
    Differs from the released code: floating-point buffers of the teacher are averaged and integer ones copied, while
        the code averages integers too, which truncates them; dropout masks are drawn on the device. Labeled and strong
        images pass the student separately, as in the code: without BatchNorm one joint batch would be equivalent, but
        saved no more than 3 % of a step at crops of 98 and 252 pixels. Levels with different numbers of channels draw
        separate masks, as stated by the author for convolutional encoders; that this includes the choice of unchanged
        images is our reading.

    Args:
        ema: EMA settings of the teacher, which stays in eval mode.
        conf_threshold: minimum confidence.
        unsup_weight: weight of the mean of the two unlabeled losses before the sum is halved; the paper tries 0.5 to
            4 and uses 1.
    """

    view_spec = ViewSpec(strong=2)

    def __init__(self, parts: Parts, *, ema: Ema, conf_threshold: Share = 0.95, unsup_weight: Weight = 1.0) -> None:
        super().__init__(parts, ema=ema)
        self.conf_threshold, self.unsup_weight = conf_threshold, unsup_weight

    def step(self, batch: SemiBatch) -> StepOutput:
        """Loss = (loss_sup + unsup_weight * (loss_s1 + loss_s2) / 2) / 2."""
        u, (h, w) = batch.unlabeled, batch.labeled.shape[-2:]
        pseudo = pseudo_label(probabilities(self.teacher_logits(u.weak)), u.padded)

        # Each view has its own box, filled from the reversed batch.
        strong_1, target_1 = cutmix(u, pseudo, view=0)
        strong_2, target_2 = cutmix(u, pseudo, view=1)

        logits_l = self.student(batch.labeled)
        dropped = comp_drop(self.student.features(torch.cat([strong_1, strong_2])))
        logits_s1, logits_s2 = self.student.classify(self.student.decode(dropped), (h, w)).chunk(2)

        loss_sup = self.sup_loss(logits_l, batch.labels)
        loss_s1, loss_s2 = (
            unsupervised_cross_entropy(logits_s, t.labels, t.keep(self.conf_threshold), t.padded)
            for logits_s, t in ((logits_s1, target_1), (logits_s2, target_2))
        )
        return StepOutput(
            loss=(loss_sup + self.unsup_weight * (loss_s1 + loss_s2) / 2) / 2,
            terms={"loss_sup": loss_sup, "loss_s1": loss_s1, "loss_s2": loss_s2},
            pseudo=pseudo,
            keep=pseudo.keep(self.conf_threshold),
        )
