"""GuidedMix-Net: a labeled image, mixed in, guides the prediction of an unlabeled one."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from semiseg.data.batch import IGNORE, SemiBatch, ViewSpec
from semiseg.methods.base import Parts, SemiMethod, StepOutput
from semiseg.models.mitrans import MITrans, MITransDecoder
from semiseg.ops.focal import sigmoid_focal
from semiseg.ops.pseudo import probabilities, pseudo_label

AGREEMENT = {  # (learning logits, fixed logits) -> scalar
    "focal": lambda z, target: sigmoid_focal(z, target.argmax(dim=1)),
    "mse": lambda z, target: F.mse_loss(z.softmax(dim=1), target.softmax(dim=1)),
    "ce": lambda z, target: F.cross_entropy(z, target.argmax(dim=1)),
}


class GuidedMix(SemiMethod):
    """A second head segments mixtures; minus the labeled image's own logits, it must agree with the unlabeled ones.

    Source: ``guidedmix`` is the loss of the code released by Tu et al. 2022 (AAAI, arXiv 2112.14015). That code is not
        the paper's method (it mixes maps instead of images, at random, without MITrans): its results are no
        reproduction of the paper's tables. ``guidedmix_paper`` is reconstructed from abstracts and summaries. Sourced
        are mixed images, similar pairs, MITrans, and masks from the mixture that teach the unlabeled prediction;
        guessed are the search within the batch, its distance, the shared encoder, where MITrans sits, soft decoupling
        and squared error; weight and ramp are pure choices [I].
    Differs from the code: unlabeled crops are plain (theirs look at the hidden ground truth, a label leak); the two
        lists are shuffled independently; views and evaluation are this project's; the pooled branch of DeepLab enters
        the BatchNorm statistics once a stream, not twice; what only gives an argmax has no graph (same gradients); the
        term for the labeled side, which the code computes and drops, is left out. Its optimizer is
        ``optim.weight_decay=5e-4 optim.min_lr=1e-4``, its network ``deeplabv3_r50`` | ``deeplabv3_r101``.
    Differs from the reconstruction: fixed masks (``target_direction=plain``) leave the second stream without any loss,
        so there it learns the labeled images as well, a term ``loss_sup_mix`` of weight 1 [DESIGN].

    With unequal batches every unlabeled image gets a guide, and random guides repeat as little as possible [DESIGN].
    Padded pixels count in the agreement, as in the code. A decoder with a pooled branch (DeepLab) needs two images of
    either kind, because its BatchNorm sees one stream at a time.

    Args:
        mix_level: ``feature``: what the decoder has joined, ahead of its last convolutions (code); ``image`` (paper):
            the second stream shares the encoder and has a decoder of its own.
        pairing: ``random`` (code), or ``similar`` (paper): the labeled image of the batch whose averaged coarsest map
            has the smallest Euclidean distance.
        lam_max: upper end of lam, the weight of the labeled side, in (0, 0.5].
        beta: a of x ~ Beta(a, a), lam = 2 lam_max min(x, 1 - x). a = 1 is the code's law, uniform in (0, lam_max);
            elsewhere the code redraws beyond lam_max, we scale [DESIGN].
        decouple: z_mix - lam z_l (``soft``), z_mix - z_l (``hard``) or z_mix (``none``).
        target_direction: what learns: the decoupled mixture (``mixed``, code), the unlabeled prediction (``plain``,
            reconstruction), or ``both``, the sum.
        loss: ``focal`` (code) or ``ce`` against the argmax, ``mse`` of class probabilities (reconstruction).
        unsup_weight: weight of the agreement.
        ramp: share of the run over which that weight rises linearly; 0: constant.
        use_mitrans: MITrans in the second stream, on what was mixed (feature) or on the coarsest map (image).
        detach_reference: no gradient through the z_l of the decoupling.
        average_ignored: divide the supervised loss by all pixels, the ignored ones too (code).
    """

    view_spec = ViewSpec()

    def __init__(
        self,
        parts: Parts,
        *,
        mix_level: Literal["feature", "image"] = "feature",
        pairing: Literal["random", "similar"] = "random",
        lam_max: float = 0.5,
        beta: float = 1.0,
        decouple: Literal["soft", "hard", "none"] = "soft",
        target_direction: Literal["mixed", "plain", "both"] = "mixed",
        loss: Literal["focal", "mse", "ce"] = "focal",
        unsup_weight: float = 10.0,
        ramp: float = 0.0,
        use_mitrans: bool = False,
        detach_reference: bool = False,
        average_ignored: bool = True,
    ) -> None:
        super().__init__(parts)
        for key, value, allowed in (
            ("mix_level", mix_level, ("feature", "image")),
            ("pairing", pairing, ("random", "similar")),
            ("decouple", decouple, ("soft", "hard", "none")),
            ("target_direction", target_direction, ("mixed", "plain", "both")),
            ("loss", loss, tuple(AGREEMENT)),
        ):
            if value not in allowed:
                raise ValueError(f"method.{key}={value!r}: allowed are {', '.join(allowed)}")
        for name, number, valid, law in (
            ("lam_max", lam_max, 0 < lam_max <= 0.5, "numbers in (0, 0.5]"),
            ("beta", beta, beta > 0, "positive numbers"),
            ("ramp", ramp, 0 <= ramp <= 1, "numbers in [0, 1]"),
        ):
            if not valid:
                raise ValueError(f"method.{name}={number}: allowed are {law}")
        self.mix_level, self.pairing, self.decouple = mix_level, pairing, decouple
        self.target_direction, self.loss = target_direction, loss
        self.lam_max, self.unsup_weight, self.ramp = lam_max, unsup_weight, ramp
        self.detach_reference, self.average_ignored = detach_reference, average_ignored
        self.lam_law = torch.distributions.Beta(beta, beta, validate_args=False)

        # Layers of a whole new network, so that they start as its own do; the rest of it is dropped again.
        other = parts.network()
        head: nn.Module = other.decoder.refine if mix_level == "feature" else other.decoder
        if use_mitrans and mix_level == "feature":
            head = nn.Sequential(MITrans(other.decoder.join_channels), head)
        elif use_mitrans:
            head = MITransDecoder(other.decoder, other.encoder.channels[-1])
        self.second_head = nn.Sequential(head, other.classifier)

    def step(self, batch: SemiBatch) -> StepOutput:
        """Loss = loss_sup + unsup_weight * agreement(z_mix - lam z_l, z_u), all z at the size of the decoder's map."""
        u, net, n_l, size = batch.unlabeled, self.student, len(batch.labeled), batch.labeled.shape[-2:]

        # The encoder takes both streams at once, the decoder one by one: its BatchNorm statistics are per stream.
        features = net.features(torch.cat([batch.labeled, u.weak]))
        features_l, features_u = [f[:n_l] for f in features], [f[n_l:] for f in features]
        joined_l, joined_u = (net.decoder.join(f, net.decoder.context(f)) for f in (features_l, features_u))
        z_l = net.classifier(net.decoder.refine(joined_l))
        with torch.set_grad_enabled(self.target_direction != "mixed"):  # else its argmax is all that is used
            z_u = net.classifier(net.decoder.refine(joined_u))

        loss_sup = self.sup_loss(net.upsample(z_l, size), batch.labels)
        if self.average_ignored:
            loss_sup = loss_sup * (batch.labels != IGNORE).float().mean()
        loss, terms = loss_sup, {"loss_sup": loss_sup}
        if self.target_direction == "plain":
            z_again = self.second_head(joined_l if self.mix_level == "feature" else features_l)
            terms["loss_sup_mix"] = self.sup_loss(net.upsample(z_again, size), batch.labels)
            loss = loss + terms["loss_sup_mix"]

        # Labeled image guide[j] is mixed into unlabeled image j, and its own part taken out of the prediction.
        guide, lam = self.guides(features_l[-1], features_u[-1]), self.draw_lam()
        with torch.set_grad_enabled(self.target_direction != "plain"):
            if self.mix_level == "feature":
                z_mix = self.second_head(lam * joined_l[guide] + (1 - lam) * joined_u)
            else:
                z_mix = self.second_head(net.features(lam * batch.labeled[guide] + (1 - lam) * u.weak))
        z_dec = self.decoupled(z_mix.float(), z_l[guide].float(), lam)

        loss_unsup = self.agreement(z_dec, z_u.float())
        ramp = min(1.0, self.progress / self.ramp) if self.ramp else 1.0
        terms["loss_unsup"] = loss_unsup
        terms["agreement"] = (z_dec.argmax(dim=1) == z_u.argmax(dim=1)).float().mean()
        return StepOutput(
            loss=loss + self.unsup_weight * ramp * loss_unsup,
            terms=terms,
            pseudo=pseudo_label(probabilities(net.upsample(z_u, size)), u.padded),
            keep=~u.padded,
        )

    def draw_lam(self) -> Tensor:
        """Scalar in (0, lam_max): the weight of the labeled side, one a step and process; on the CPU, no wait."""
        x = self.lam_law.sample()
        return 2 * self.lam_max * torch.minimum(x, 1 - x)

    @torch.no_grad()
    def guides(self, deepest_l: Tensor, deepest_u: Tensor) -> Tensor:
        """(B_u,) long in [0, B_l): the guide of each unlabeled image, from the encoder's coarsest maps."""
        n_l, n_u = len(deepest_l), len(deepest_u)
        if self.pairing == "random":
            return torch.randperm(max(n_l, n_u), device=deepest_u.device)[:n_u] % n_l
        pooled_l, pooled_u = deepest_l.float().mean((2, 3)), deepest_u.float().mean((2, 3))
        return (pooled_u[:, None] - pooled_l).square().sum(dim=2).argmin(dim=1)

    def decoupled(self, z_mix: Tensor, z_l: Tensor, lam: Tensor) -> Tensor:
        """z_mix without what the guides contribute; all (B_u, C, h, w)."""
        share = {"soft": lam, "hard": 1.0, "none": 0.0}[self.decouple]
        return z_mix - share * (z_l.detach() if self.detach_reference else z_l)

    def agreement(self, z_dec: Tensor, z_u: Tensor) -> Tensor:
        """Distance of two logit maps (B_u, C, h, w), the target one without gradient; ``both``: two such terms."""
        distance, loss = AGREEMENT[self.loss], z_dec.new_zeros(())
        if self.target_direction in ("mixed", "both"):
            loss = loss + distance(z_dec, z_u.detach())
        if self.target_direction in ("plain", "both"):
            loss = loss + distance(z_u, z_dec.detach())
        return loss

    def trained(self) -> list[nn.Module]:
        """The network and the second head, which inference does not use."""
        return [self.student, self.second_head]
