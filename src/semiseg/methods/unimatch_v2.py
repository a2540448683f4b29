"""UniMatch V2: two strong views with complementary channel dropout, labeled by an averaged teacher."""

from __future__ import annotations

import torch

from semiseg.data.batch import SemiBatch, ViewSpec
from semiseg.methods.base import Parts, SemiMethod, StepOutput
from semiseg.ops.ema import Ema
from semiseg.ops.losses import unsupervised_cross_entropy
from semiseg.ops.mixing import box_mask, paste
from semiseg.ops.perturb import comp_drop
from semiseg.ops.pseudo import probabilities, pseudo_label


class UniMatchV2(SemiMethod):
    """Confident labels of a teacher's weak view teach two strong views whose features drop opposite channels.

    Source: Yang et al. 2025 (TPAMI, arXiv 2410.10777) and the released code. The paper's networks are DINOv2 with DPT
        (``experiment=unimatch_v2_dinov2``); other networks work alike.
    Differs from the released code: floating-point buffers of the teacher are averaged, integer ones copied, while the
        code averages integers too, which truncates them; dropout masks are drawn on the device. Labeled and strong
        images pass the student apart, as in the code: without BatchNorm one joint batch would be the same, but saved
        no more than 3 % of a step at crops of 98 and 252 pixels. Levels that differ in channels draw a mask each, as
        the author says of convolutional encoders; that this includes the choice of whole images is our reading.

    Args:
        ema: how the teacher follows; it stays in eval mode.
        conf_threshold: confidence from which a pixel is learned, in [0, 1].
        unsup_weight: weight of the mean of the two unlabeled losses before the sum is halved; the paper tries 0.5 to
            4 and keeps 1.
    """

    view_spec = ViewSpec(strong=2)

    def __init__(self, parts: Parts, *, ema: Ema, conf_threshold: float = 0.95, unsup_weight: float = 1.0) -> None:
        super().__init__(parts, ema=ema)
        self.conf_threshold, self.unsup_weight = conf_threshold, unsup_weight

    def step(self, batch: SemiBatch) -> StepOutput:
        """Loss = (loss_sup + unsup_weight * (loss_s1 + loss_s2) / 2) / 2."""
        u, (h, w) = batch.unlabeled, batch.labeled.shape[-2:]
        pseudo = pseudo_label(probabilities(self.teacher_logits(u.weak)), u.padded)

        # Each view has its own box, filled from the reversed batch.
        boxes = [box_mask(b, h, w) for b in u.boxes]
        strong = [paste(box, view.flip(0), view) for box, view in zip(boxes, u.strong)]
        targets = [pseudo.mixed(box, pseudo.flip()) for box in boxes]

        logits_l = self.student(batch.labeled)
        dropped = comp_drop(self.student.features(torch.cat(strong)))
        logits_s = self.student.classify(self.student.decode(dropped), (h, w)).chunk(2)

        loss_sup = self.sup_loss(logits_l, batch.labels)
        loss_s1, loss_s2 = (
            unsupervised_cross_entropy(logits, t.labels, t.keep(self.conf_threshold), t.padded)
            for logits, t in zip(logits_s, targets)
        )
        return StepOutput(
            loss=(loss_sup + self.unsup_weight * (loss_s1 + loss_s2) / 2) / 2,
            terms={"loss_sup": loss_sup, "loss_s1": loss_s1, "loss_s2": loss_s2},
            pseudo=pseudo,
            keep=pseudo.keep(self.conf_threshold),
        )
