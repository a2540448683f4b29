"""GuidedMix-Net, reconstructed from the paper as far as possible: similar images mixed, masks from the mixture."""

from __future__ import annotations

from collections.abc import Callable
from operator import attrgetter
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from semiseg.arguments import checked
from semiseg.data.batch import SemiBatch, ViewSpec
from semiseg.methods.base import Parts, SemiMethod, StepOutput
from semiseg.models.mitrans import MITransDecoder
from semiseg.models.segmentor import Segmentor
from semiseg.ops.pseudo import probabilities, pseudo_label
from semiseg.ops.ranges import Positive, Share, Weight

LamMax = Annotated[float, Field(gt=0, le=0.5)]


class GuidedMixing(SemiMethod):
    """Base of both variants: a second head for mixtures, and the weight of the labeled side.

    With unequal batches every unlabeled image gets a guide. A decoder with a pooled branch (DeepLab) needs at least
    two labeled and two unlabeled images, because its BatchNorm sees one stream at a time.

    Args:
        head: the second stream's layers before its classifier, taken from a new network.
        lam_max: upper limit of lam, the weight of the labeled side.
        beta: a of x ~ Beta(a, a), lam = 2 lam_max min(x, 1 - x). a = 1 is the released code's distribution, uniform
            in (0, lam_max); for other a the code redraws values above lam_max, we scale.
        unsup_weight: weight of the agreement loss.
    """

    view_spec = ViewSpec()

    def __init__(
        self,
        parts: Parts,
        *,
        head: Callable[[Segmentor], nn.Module],
        lam_max: float,
        beta: float,
        unsup_weight: float,
    ) -> None:
        super().__init__(parts)
        self.lam_max, self.unsup_weight = lam_max, unsup_weight
        self.lam_law = torch.distributions.Beta(beta, beta, validate_args=False)
        # Layers of a new network, for the same initialization; the rest of that network is discarded.
        other = parts.network()
        self.second_head = nn.Sequential(head(other), other.classifier)

    def streams(self, batch: SemiBatch) -> tuple[list[Tensor], list[Tensor], Tensor, Tensor]:
        """Encoder maps of labeled and unlabeled images, and the decoder's joined map of each.

        The encoder processes both together, the decoder separately: its BatchNorm statistics are per stream.
        """
        net, n_l = self.student, len(batch.labeled)
        features = net.features(torch.cat([batch.labeled, batch.unlabeled.weak]))
        features_l, features_u = [f[:n_l] for f in features], [f[n_l:] for f in features]
        joined_l, joined_u = (net.decoder.join(f, net.decoder.context(f)) for f in (features_l, features_u))
        return features_l, features_u, joined_l, joined_u

    def draw_lam(self) -> Tensor:
        """Scalar in (0, lam_max): the weight of the labeled side, one per step and process; on the CPU: no sync."""
        x = self.lam_law.sample()
        return 2 * self.lam_max * torch.minimum(x, 1 - x)

    def trained(self) -> list[nn.Module]:
        """The network and the second head, which is not used at inference."""
        return [self.student, self.second_head]


@checked
class GuidedMix(GuidedMixing):
    """The prediction of a mixture, minus the labeled image's own logits, supervises that of the unlabeled image.

    Source: Tu et al. 2022 (AAAI, arXiv 2112.14015), reconstructed from abstracts and summaries. From these sources:
        mixed images, similar pairs, MITrans, and masks from the mixture that supervise the unlabeled prediction.
        Guessed: the search within the batch, its distance, the shared encoder, the position of MITrans, soft
        decoupling and squared error. Weight and ramp are our choice. The released code does something else:
        :class:`GuidedMixReleased`.
    Differs from the sources: with detached masks the second stream would have no loss, so it also learns the labeled
        images, a term ``loss_sup_mix`` of weight 1. Padded pixels count in the agreement.

    Args:
        lam_max, beta, unsup_weight: see :class:`GuidedMixing`.
        ramp: fraction of the run over which ``unsup_weight`` rises linearly; 0: constant.
        use_mitrans: use MITrans in the second stream, on the encoder's coarsest map.
    """

    def __init__(
        self,
        parts: Parts,
        *,
        lam_max: LamMax = 0.5,
        beta: Positive = 1.0,
        unsup_weight: Weight = 1.0,
        ramp: Share = 0.1,
        use_mitrans: bool = True,
    ) -> None:
        head = with_mitrans if use_mitrans else attrgetter("decoder")
        super().__init__(parts, head=head, lam_max=lam_max, beta=beta, unsup_weight=unsup_weight)
        self.ramp = ramp

    def step(self, batch: SemiBatch) -> StepOutput:
        """Loss = loss_sup + loss_sup_mix + unsup_weight * |softmax(z_u) - softmax(z_mix - lam z_l)|^2."""
        u, net, size = batch.unlabeled, self.student, batch.labeled.shape[-2:]
        features_l, features_u, joined_l, joined_u = self.streams(batch)
        z_l, z_u = (net.classifier(net.decoder.refine(joined)) for joined in (joined_l, joined_u))
        loss_sup = self.sup_loss(net.upsample(z_l, size), batch.labels)
        loss_sup_mix = self.sup_loss(net.upsample(self.second_head(features_l), size), batch.labels)

        # Labeled image guide[j] is mixed into unlabeled image j, and its part is subtracted from the prediction.
        guide, lam = self.guides(features_l[-1], features_u[-1]), self.draw_lam()
        with torch.no_grad():
            z_mix = self.second_head(net.features(lam * batch.labeled[guide] + (1 - lam) * u.weak))
        mask = z_mix.float() - lam * z_l[guide].detach().float()
        loss_unsup = F.mse_loss(z_u.float().softmax(dim=1), mask.softmax(dim=1))

        ramp = min(1.0, self.progress / self.ramp) if self.ramp else 1.0
        agreement = (mask.argmax(dim=1) == z_u.argmax(dim=1)).float().mean()
        terms = {"loss_sup": loss_sup, "loss_sup_mix": loss_sup_mix}
        return StepOutput(
            loss=loss_sup + loss_sup_mix + self.unsup_weight * ramp * loss_unsup,
            terms=terms | {"loss_unsup": loss_unsup, "agreement": agreement},
            pseudo=pseudo_label(probabilities(net.upsample(z_u, size)), u.padded),
            keep=~u.padded,
        )

    @torch.no_grad()
    def guides(self, deepest_l: Tensor, deepest_u: Tensor) -> Tensor:
        """(B_u,) long in [0, B_l): the nearest labeled image of each unlabeled one, by the mean of coarsest maps."""
        pooled_l, pooled_u = deepest_l.float().mean((2, 3)), deepest_u.float().mean((2, 3))
        return (pooled_u[:, None] - pooled_l).square().sum(dim=2).argmin(dim=1)


def with_mitrans(network: Segmentor) -> MITransDecoder:
    """The decoder of a network, with MITrans on the encoder's coarsest map."""
    return MITransDecoder(network.decoder, network.encoder.channels[-1])
