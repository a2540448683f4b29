"""CPS: two networks supervise each other."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from semiseg.arguments import checked
from semiseg.data.batch import SemiBatch, ViewSpec
from semiseg.errors import InputError
from semiseg.methods.base import Parts, SemiMethod, StepOutput
from semiseg.ops.mixing import cutmix
from semiseg.ops.pseudo import PseudoLabels, probabilities
from semiseg.ops.ranges import Weight


@checked
class CPS(SemiMethod):
    """Cross pseudo supervision: each of two students learns the argmax of the other.

    There is no threshold and no EMA, and padded pixels count too. ``student`` is the network that is reported.

    Source: Chen et al. 2021 (CVPR, arXiv 2106.01226) and the released code (TorchSemiSeg). ``mixing=none``: labels of
        labeled and unlabeled images, from the same pass that is trained. ``mixing=cutmix``: labels of the clean
        unlabeled images, in train mode without gradients, mixed like the images that the students then see.
    Differs from the released code: image i is mixed with image i+1 of the same batch. The author states that two
        different images are mixed; by our reading the two loaders of the code draw the same one twice. One pass of
        each network therefore labels both partners, so BatchNorm sees a joint batch. Hard labels are mixed instead
        of logits, which is equivalent for a binary mask. Both networks start from the same encoder weights only if
        ``model.weights`` is a file or the hub. The code divides its losses by the number of processes, and scales the
        learning rate accordingly for VOC only: in an ordinary training loop its rate is ``optim.lr=0.0025`` for both
        data sets, with a weight decay of 4e-4 (VOC, 4 processes) or 8e-4 (Cityscapes, 8).

    Args:
        mixing: ``cutmix`` or ``none``. CutMix is the default: published numbers are higher with it, and they are
            the ones that users of the code reproduce.
        weight: weight of the loss on pseudo-labels: VOC 1 with CutMix, 1.5 without; Cityscapes 5 and 6.
        strong_colors: the mixed images get color jitter and blur as well; ours, the paper has none.
    """

    def __init__(
        self,
        parts: Parts,
        *,
        mixing: Literal["cutmix", "none"] = "cutmix",
        weight: Weight = 1.0,
        strong_colors: bool = False,
    ) -> None:
        if strong_colors and mixing == "none":
            raise InputError("method.strong_colors=true: applies to mixed images only; set method.mixing=cutmix")
        super().__init__(parts)
        self.student_b = parts.network()
        self.mixing, self.weight = mixing, weight
        if mixing == "cutmix":
            self.view_spec = ViewSpec(strong=1, recolored=strong_colors, cutmix_law="xor3")
        else:
            self.view_spec = ViewSpec()

    def step(self, batch: SemiBatch) -> StepOutput:
        """Loss = loss_sup + weight * loss_cps, each summed over both students."""
        u = batch.unlabeled
        # A separate pass for labeled images: BatchNorm, and training with weight 0, match supervised training.
        logits_l = self.both(batch.labeled)
        loss_sup = self.sup_loss(logits_l[0], batch.labels) + self.sup_loss(logits_l[1], batch.labels)

        with torch.set_grad_enabled(self.mixing == "none"):
            logits_w = self.both(u.weak)
        pseudo_a, pseudo_b = (PseudoLabels(z.argmax(1), probabilities(z).amax(1), u.padded) for z in logits_w)
        if self.mixing == "cutmix":
            strong, target_a = cutmix(u, pseudo_a, order="next")
            _, target_b = cutmix(u, pseudo_b, order="next")
            logits = self.both(strong)
            labels_a, labels_b = target_a.labels, target_b.labels
        else:
            logits = [torch.cat(pair) for pair in zip(logits_l, logits_w)]
            labels_a, labels_b = (torch.cat([z.argmax(1), p.labels]) for z, p in zip(logits_l, (pseudo_a, pseudo_b)))
        # Mean over all pixels, including padding.
        per_pixel = [F.cross_entropy(z, y, reduction="none") for z, y in zip(logits, (labels_b, labels_a))]
        loss_cps = per_pixel[0].mean() + per_pixel[1].mean()
        return StepOutput(
            loss=loss_sup + self.weight * loss_cps,
            terms={"loss_sup": loss_sup, "loss_cps": loss_cps},
            pseudo=pseudo_b,  # what the reported student learns from
            keep=~u.padded,
        )

    def both(self, images: Tensor) -> list[Tensor]:
        """Logits (B, C, H, W) of both students."""
        return [self.student(images), self.student_b(images)]

    def trained(self) -> list[nn.Module]:
        """Both students."""
        return [self.student, self.student_b]
