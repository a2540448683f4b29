"""CorrMatch: correlation maps propagate predictions between pixels, and confident labels over regions."""

from __future__ import annotations

import dataclasses
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from semiseg.arguments import checked
from semiseg.data.batch import SemiBatch, ViewSpec
from semiseg.methods.base import Parts, SemiMethod, StepOutput
from semiseg.methods.networks import eval_logits
from semiseg.models.correlation import CorrelationSegmentor
from semiseg.ops.distributed import largest
from semiseg.ops.losses import unsupervised_cross_entropy, unsupervised_kl
from semiseg.ops.mixing import box_mask, cutmix
from semiseg.ops.propagation import class_maxima, mean_over_present, min_max, propagate
from semiseg.ops.pseudo import PseudoLabels, probabilities, pseudo_label
from semiseg.ops.ranges import Count, Share, ShareBelowOne


@checked
class CorrMatch(SemiMethod):
    """UniMatch with one strong view, a second output by correlation, and pseudo-labels propagated over regions.

    Source: Sun et al. 2024 (CVPR, arXiv 2306.04300), from a description of the released code, whose license forbids
        commercial use; none of that code was used.
    Differs from the released code: all regions are judged by the input labels, not one after another, and the last
        one that passes wins; inside the CutMix box, where the strong and weak views show different content, the two
        are not compared by KL; CutMix pastes image B-1-i of the same batch (``cutmix_partner=same_image`` is what the
        code does).

    Args:
        conf_threshold: initial minimum confidence.
        threshold_decay: EMA decay of the threshold; 1: constant.
        regions: number of random rows of the correlation map, per image, that are tested as regions.
        feature_dropout: probability that a channel of a feature map is dropped.
        cutmix_partner: image that CutMix pastes from: ``flip``, image B-1-i of the batch; ``same_image``, another
            augmentation of the same image; ``other``, another unlabeled image.
    """

    student: CorrelationSegmentor
    threshold: Tensor

    def __init__(
        self,
        parts: Parts,
        *,
        conf_threshold: Share = 0.85,
        threshold_decay: Share = 0.999,
        regions: Count = 128,
        feature_dropout: ShareBelowOne = 0.5,
        cutmix_partner: Literal["flip", "same_image", "other"] = "flip",
    ) -> None:
        super().__init__(dataclasses.replace(parts, network=lambda: CorrelationSegmentor(parts.network())))
        self.view_spec = ViewSpec(strong=1, partner=cutmix_partner)
        self.threshold_decay, self.regions, self.feature_dropout = threshold_decay, regions, feature_dropout
        self.register_buffer("threshold", torch.tensor(conf_threshold))

    def step(self, batch: SemiBatch) -> StepOutput:
        """Loss = ((sup + sup_corr) / 2 + (s + kl + fp + (corr_s + corr_w) / 2) / 4) / 2."""
        u, p, (h, w) = batch.unlabeled, batch.partner, batch.labeled.shape[-2:]
        n_l, n_u, student = len(batch.labeled), len(u.weak), self.student
        partner = None
        if p is not None:
            partner = (p, pseudo_label(probabilities(eval_logits(student, p.weak)), p.padded))

        # Clean and feature-perturbed maps of (labeled, weak), in one pass of the encoder and one of the decoder.
        features = student.features(torch.cat([batch.labeled, u.weak]))
        dropped = [F.dropout2d(f, self.feature_dropout, training=True) for f in features]
        decoded = student.decode([torch.cat(pair) for pair in zip(features, dropped)])
        clean, _, dropped_w = decoded.split([n_l + n_u, n_l, n_u])
        logits, by_correlation, correlation = student.correlated(features, clean, (h, w))
        (logits_l, logits_w), (corr_l, corr_w) = (x.split([n_l, n_u]) for x in (logits, by_correlation))
        logits_fp = student.classify(dropped_w, (h, w))
        prob_w = probabilities(logits_w)
        pseudo = pseudo_label(prob_w, u.padded)
        threshold = self.moved_threshold(pseudo)

        box = box_mask(u.boxes[0], h, w)
        strong, target = cutmix(u, pseudo, mask=box, partner=partner)
        features = student.features(strong)
        logits_s, corr_s, _ = student.correlated(features, student.decode(features), (h, w))

        # Only the main output of the strong view learns the regions; they exclude the box and the padding.
        keep, confident = pseudo.keep(threshold), target.keep(threshold)
        regions = self.region_masks(correlation[n_l:], (h, w)) & ~(box | u.padded)[:, None]
        labels, valid = propagate(target, confident, regions, threshold, self.num_classes)

        terms = {
            "loss_sup": self.sup_loss(logits_l, batch.labels),
            "loss_sup_corr": self.sup_loss(corr_l, batch.labels),
            "loss_s": unsupervised_cross_entropy(logits_s, labels, valid, target.padded),
            "loss_kl": unsupervised_kl(logits_s, prob_w, confident & ~box, target.padded),
            "loss_fp": unsupervised_cross_entropy(logits_fp, pseudo.labels, keep, u.padded),
            "loss_corr_s": unsupervised_cross_entropy(corr_s, target.labels, confident, target.padded),
            "loss_corr_w": unsupervised_cross_entropy(corr_w, pseudo.labels, keep, u.padded),
        }
        sup, sup_corr, s, kl, fp, unsup_corr_s, unsup_corr_w = terms.values()
        loss = ((sup + sup_corr) / 2 + (s + kl + fp + (unsup_corr_s + unsup_corr_w) / 2) / 4) / 2
        filled = (valid & ~confident).float().mean()
        terms |= {"threshold": threshold.clone(), "filled_ratio": filled}
        return StepOutput(loss=loss, terms=terms, pseudo=pseudo, keep=keep)

    @torch.no_grad()
    def moved_threshold(self, pseudo: PseudoLabels) -> Tensor:
        """The threshold, updated toward the mean over present classes of their largest confidence on any process."""
        maxima = largest(class_maxima(pseudo, self.num_classes))
        return self.threshold.lerp_(mean_over_present(maxima, self.threshold), 1 - self.threshold_decay)

    @torch.no_grad()
    def region_masks(self, correlation: Tensor, size: tuple[int, int]) -> Tensor:
        """Random rows of correlation maps (B, N, N) as masks (B, M, H, W): values above the middle of their range."""
        n = correlation.shape[-1]
        rows = torch.rand(correlation.shape[:2], device=correlation.device).argsort(dim=1)[:, : self.regions]
        maps = correlation.gather(1, rows[..., None].expand(-1, -1, n)).unflatten(2, self.student.map_size(*size))
        return min_max(self.student.upsample(maps, size)) > 0.5
