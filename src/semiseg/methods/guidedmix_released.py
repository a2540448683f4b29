"""GuidedMix-Net as released: randomly mixed maps; minus its labeled part, the mixture must match the unlabeled map."""

from __future__ import annotations

from operator import attrgetter

import torch
from torch import Tensor

from semiseg.arguments import checked
from semiseg.data.batch import IGNORE, SemiBatch
from semiseg.methods.base import Parts, StepOutput
from semiseg.methods.guidedmix import GuidedMixing, LamMax
from semiseg.ops.focal import sigmoid_focal
from semiseg.ops.pseudo import probabilities, pseudo_label
from semiseg.ops.ranges import Positive, Weight


@checked
class GuidedMixReleased(GuidedMixing):
    """A second head segments mixtures; minus the labeled image's own logits, it must agree with the unlabeled logits.

    Source: the loss of the code released by Tu et al. 2022 (AAAI, arXiv 2112.14015). That code is not the paper's
        method (it mixes maps instead of images, at random, without MITrans), so its results do not reproduce the
        paper's tables. The paper's method, reconstructed, is :class:`GuidedMix`.
    Differs from the code: unlabeled crops are random (theirs use the hidden ground truth, a label leak); the two
        lists are shuffled independently; views and evaluation are this project's; the pooled branch of DeepLab updates
        the BatchNorm statistics once per stream, not twice; logits used only for an argmax are detached (same
        gradients); the term for the labeled side, which the code computes and discards, is omitted; random guides
        repeat as little as possible. Its optimizer is ``optim.weight_decay=5e-4 optim.min_lr=1e-4``, its network
        ``deeplabv3_r50`` | ``deeplabv3_r101``. Padded pixels count in the agreement, as in the code.

    Args:
        lam_max, beta, unsup_weight: see :class:`GuidedMixing`; lam_max is 0.4 on Cityscapes with 372 labels.
    """

    def __init__(
        self, parts: Parts, *, lam_max: LamMax = 0.5, beta: Positive = 1.0, unsup_weight: Weight = 10.0
    ) -> None:
        super().__init__(
            parts, head=attrgetter("decoder.refine"), lam_max=lam_max, beta=beta, unsup_weight=unsup_weight
        )

    def step(self, batch: SemiBatch) -> StepOutput:
        """Loss = loss_sup + 10 * focal(z_mix - lam z_l, argmax z_u), all z at the decoder's resolution."""
        u, net, size = batch.unlabeled, self.student, batch.labeled.shape[-2:]
        _, _, joined_l, joined_u = self.streams(batch)
        z_l = net.classifier(net.decoder.refine(joined_l))
        with torch.no_grad():
            z_u = net.classifier(net.decoder.refine(joined_u))

        # Mean over all pixels, including ignored ones.
        has_label = batch.labels != IGNORE
        loss_sup = self.sup_loss(net.upsample(z_l, size), batch.labels) * has_label.float().mean()

        # Labeled map guide[j] is mixed into unlabeled map j, and its part is subtracted from the prediction.
        guide, lam = self.guides(len(joined_l), len(joined_u), u.weak.device), self.draw_lam()
        z_mix = self.second_head(lam * joined_l[guide] + (1 - lam) * joined_u)
        z_decoupled = z_mix.float() - lam * z_l[guide].float()
        target = z_u.argmax(dim=1)
        loss_unsup = sigmoid_focal(z_decoupled, target)
        agreement = (z_decoupled.argmax(dim=1) == target).float().mean()
        return StepOutput(
            loss=loss_sup + self.unsup_weight * loss_unsup,
            terms={"loss_sup": loss_sup, "loss_unsup": loss_unsup, "agreement": agreement},
            pseudo=pseudo_label(probabilities(net.upsample(z_u, size)), u.padded),
            keep=~u.padded,
        )

    def guides(self, n_labeled: int, n_unlabeled: int, device: torch.device) -> Tensor:
        """(B_u,) long in [0, B_l): a random guide for each unlabeled image, with as few repetitions as possible."""
        return torch.randperm(max(n_labeled, n_unlabeled), device=device)[:n_unlabeled] % n_labeled
