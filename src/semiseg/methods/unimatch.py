"""UniMatch: FixMatch with two strong views and one feature-perturbed stream."""

from __future__ import annotations

from typing import Literal

import torch
from torch.nn import functional as F

from semiseg.arguments import checked
from semiseg.data.batch import SemiBatch, ViewSpec
from semiseg.methods.base import Parts, SemiMethod, StepOutput
from semiseg.methods.networks import eval_logits
from semiseg.ops.losses import unsupervised_cross_entropy
from semiseg.ops.mixing import cutmix
from semiseg.ops.pseudo import probabilities, pseudo_label
from semiseg.ops.ranges import Share, ShareBelowOne, Weight


@checked
class UniMatch(SemiMethod):
    """Two strong views and one view with dropped feature channels learn from the student's own weak view.

    Source: Yang et al. 2023 (CVPR, arXiv 2208.09910), Algorithm 1 and the released code: the weak view is labeled in
        train mode; the whole (labeled, weak) batch is perturbed and takes part in the decoder's BatchNorm.
    Differs from the released code: CutMix pastes image B-1-i of the same batch (the authors found no difference),
        which saves a pass over a second batch; ``cutmix_partner=same_image`` is what the code does, with the partner
        labeled in eval mode.

    Args:
        conf_threshold: minimum confidence: 0.95, and 0 on Cityscapes.
        strong_weight: weight of each of the two strong views.
        feature_weight: weight of the feature-perturbed stream.
        feature_dropout: probability that a channel of a feature map is dropped (UniPerb).
        cutmix_partner: image that CutMix pastes from: ``flip``, image B-1-i of the batch; ``same_image``, another
            augmentation of the same image; ``other``, another unlabeled image.
    """

    def __init__(
        self,
        parts: Parts,
        *,
        conf_threshold: Share = 0.95,
        strong_weight: Weight = 0.25,
        feature_weight: Weight = 0.5,
        feature_dropout: ShareBelowOne = 0.5,
        cutmix_partner: Literal["flip", "same_image", "other"] = "flip",
    ) -> None:
        super().__init__(parts)
        self.view_spec = ViewSpec(strong=2, partner=cutmix_partner)
        self.conf_threshold, self.feature_dropout = conf_threshold, feature_dropout
        self.strong_weight, self.feature_weight = strong_weight, feature_weight

    def step(self, batch: SemiBatch) -> StepOutput:
        """Loss = (loss_sup + 0.25 loss_s1 + 0.25 loss_s2 + 0.5 loss_fp) / 2."""
        u, p, (h, w) = batch.unlabeled, batch.partner, batch.labeled.shape[-2:]
        n_l, n_u = len(batch.labeled), len(u.weak)
        partner = None
        if p is not None:
            partner = (p, pseudo_label(probabilities(eval_logits(self.student, p.weak)), p.padded))

        # Clean and feature-perturbed maps of (labeled, weak), in one pass of the encoder and one of the decoder.
        features = self.student.features(torch.cat([batch.labeled, u.weak]))
        dropped = [F.dropout2d(f, self.feature_dropout, training=True) for f in features]
        decoded = self.student.decode([torch.cat(pair) for pair in zip(features, dropped)])
        clean_l, clean_w, _, dropped_w = decoded.split([n_l, n_u, n_l, n_u])
        logits = self.student.classify(torch.cat([clean_l, clean_w, dropped_w]), (h, w))
        logits_l, logits_w, logits_fp = logits.split([n_l, n_u, n_u])
        pseudo = pseudo_label(probabilities(logits_w), u.padded)

        # Two strong views, each with its own box.
        strong_1, target_1 = cutmix(u, pseudo, view=0, partner=partner)
        strong_2, target_2 = cutmix(u, pseudo, view=1, partner=partner)
        logits_s1, logits_s2 = self.student_logits(strong_1, strong_2)

        loss_sup = self.sup_loss(logits_l, batch.labels)
        loss_s1, loss_s2 = (
            unsupervised_cross_entropy(logits_s, t.labels, t.keep(self.conf_threshold), t.padded)
            for logits_s, t in ((logits_s1, target_1), (logits_s2, target_2))
        )
        keep = pseudo.keep(self.conf_threshold)
        loss_fp = unsupervised_cross_entropy(logits_fp, pseudo.labels, keep, u.padded)
        loss_strong = self.strong_weight * (loss_s1 + loss_s2)
        return StepOutput(
            loss=(loss_sup + loss_strong + self.feature_weight * loss_fp) / 2,
            terms={"loss_sup": loss_sup, "loss_s1": loss_s1, "loss_s2": loss_s2, "loss_fp": loss_fp},
            pseudo=pseudo,
            keep=keep,
        )
