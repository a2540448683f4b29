"""U2PL: unreliable pseudo-labels as negatives of a pixel contrast."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Literal

import torch

from semiseg.data.batch import IGNORE, SemiBatch, ViewSpec
from semiseg.methods.base import Parts, SemiMethod, StepOutput, in_mode
from semiseg.ops.contrast import PixelContrast, Pixels, entropy, percentiles
from semiseg.ops.distributed import world_size
from semiseg.ops.ema import Ema
from semiseg.ops.losses import cross_entropy
from semiseg.ops.mixing import box_mask, paste
from semiseg.ops.pseudo import PseudoLabels, probabilities, pseudo_label
from semiseg.ops.schedules import CopyThenWarmup


class U2PL(SemiMethod):
    """Certain pixels teach by their label; uncertain ones are negatives of the classes that they rank low.

    The teacher labels the clean images in eval mode. On the mixed images it runs a second time, in train mode (batch
    statistics, dropout): that pass gives entropy, class ranks, and the vectors of prototypes and negatives.

    Source: Wang et al. 2022 (CVPR, arXiv 2203.03884). ``method=u2pl`` has the paper's rules and, where the paper is
        silent or the code known to do better, the numbers of the released code; ``method=u2pl_released`` is the code
        in every switch, its class list bug included.
    Differs from both: warm-up and the first epoch, in which the teacher is a copy, are shares of the run; the share of
        uncertain pixels falls at every step, not at every epoch; padding is neither labeled nor a negative (see
        ``transforms.padding_label``); for the rest see :class:`PixelContrast`. Left out: auxiliary head, CutOut.

    Args:
        contrast: (num_classes) -> the contrast.
        warmup: share of the run on labeled images only: 1/80 on VOC, on Cityscapes 20/200 (paper) or 0 (code).
        copy: share of the run after it in which the teacher equals the student: one epoch in the code.
        max_decay: of the teacher's average; its BatchNorm statistics are its own.
        drop_percent: alpha at the start, the share of uncertain pixels in percent; falls linearly to 0.
        contrast_weight: lambda_c.
        divide_by_ranks: divide the gradient of the contrast by the number of processes, as the code does.
        anchor_entropy: unlabeled anchors are all pixels but the most uncertain (``not_high``, paper), or only the
            alpha percent that are most certain (``lowest``, code).
        cutmix_prob: probability that the whole batch is mixed, image i with image i+1.
        strong_colors: mixed images get colors and blur as well; ours.
    """

    def __init__(
        self,
        parts: Parts,
        *,
        contrast: Callable[[int], PixelContrast],
        warmup: float = 0.0125,
        copy: float = 0.0125,
        max_decay: float = 0.99,
        drop_percent: float = 20.0,
        contrast_weight: float = 0.1,
        divide_by_ranks: bool = False,
        anchor_entropy: Literal["not_high", "lowest"] = "not_high",
        cutmix_prob: float = 0.5,
        strong_colors: bool = False,
    ) -> None:
        if anchor_entropy not in ("not_high", "lowest"):
            raise ValueError(f"method.anchor_entropy={anchor_entropy!r}: allowed are not_high, lowest")
        for key, share in (("warmup", warmup), ("copy", copy)):
            if not 0 <= share <= 1:
                raise ValueError(f"method.{key}={share}: allowed are numbers from 0 to 1")
        if not 0 <= drop_percent <= 100:
            raise ValueError(f"method.drop_percent={drop_percent}: allowed are numbers from 0 to 100")
        pixel_contrast = contrast(len(parts.classes))
        self.warmup_steps = round(warmup * parts.max_steps)
        decay = CopyThenWarmup(self.warmup_steps, round((warmup + copy) * parts.max_steps), max_decay)
        with_head = dataclasses.replace(parts, network=lambda: parts.network().with_representation(pixel_contrast.dim))
        super().__init__(with_head, ema=Ema(decay, buffers="keep"))
        self.contrast = pixel_contrast
        self.view_spec = ViewSpec(strong=1, recolored=strong_colors, cutmix_law="u2pl")
        self.drop_percent, self.cutmix_prob, self.anchor_entropy = drop_percent, cutmix_prob, anchor_entropy
        self.contrast_weight, self.divide_by_ranks = contrast_weight, divide_by_ranks
        # Every process pushes what all have: DDP need not send some 100 MB from rank 0 ahead of every forward pass.
        self._ddp_params_and_buffers_to_ignore = [n for n, _ in self.named_buffers() if n.startswith("contrast.queues")]

    @property
    def alpha(self) -> float:
        """Share of pixels that are uncertain now, in percent."""
        return self.drop_percent * (1 - self.progress)

    def step(self, batch: SemiBatch) -> StepOutput:
        """Loss = loss_sup + loss_unsup + contrast_weight * loss_contrast."""
        if self.steps_done < self.warmup_steps:
            return self.supervised_step(batch)
        u, size, n_l = batch.unlabeled, batch.labeled.shape[-2:], len(batch.labeled)
        pseudo = pseudo_label(probabilities(self.teacher_logits(u.weak)), u.padded)
        box = box_mask(u.boxes[0], *size) & (torch.rand((), device=u.padded.device) < self.cutmix_prob)
        target = pseudo.mixed(box, rolled(pseudo))
        images = torch.cat([batch.labeled, paste(box, u.strong[0].roll(-1, dims=0), u.strong[0])])

        logits, embedding = self.student.logits_and_embedding(images)
        logits_l, logits_u = self.student.upsample(logits, size).split([n_l, len(box)])
        with torch.no_grad(), in_mode(self.teacher, train=True):
            teacher_logits, teacher_embedding = self.teacher.logits_and_embedding(images)
            teacher_prob_u = probabilities(self.teacher.upsample(teacher_logits[n_l:], size))

        # Entropy orders the pixels: the upper alpha percent are not learned, they become negatives.
        h, there = entropy(teacher_prob_u), ~target.padded
        lowest, highest = percentiles(h, there, (self.alpha, 100 - self.alpha))
        reliable, unreliable = there & (h < highest), there & (h >= highest)
        certain = reliable if self.anchor_entropy == "not_high" else there & (h <= lowest)

        loss_sup = self.sup_loss(logits_l, batch.labels)
        loss_unsup = cross_entropy(logits_u, target.labels.masked_fill(~reliable, IGNORE))
        loss_unsup = loss_unsup * reliable.numel() / reliable.sum().clamp(min=1)

        real = batch.labels != IGNORE
        pixels = Pixels.from_maps(
            labels=torch.cat([batch.labels, target.labels]),
            low=torch.cat([real, certain]),
            high=torch.cat([real, unreliable]),
            exists=torch.cat([real, there]),
            prob=probabilities(teacher_logits),
            n_labeled=n_l,
        )
        loss_contrast = self.contrast(pixels, embedding, teacher_embedding)
        weight = self.contrast_weight / (world_size() if self.divide_by_ranks else 1)
        # A pixel of image i is learned where it is: in its own image, or pasted into the one before.
        learned = (reliable & ~box) | (reliable & box).roll(1, dims=0)
        return StepOutput(
            loss=loss_sup + loss_unsup + weight * loss_contrast,
            terms={"loss_sup": loss_sup, "loss_unsup": loss_unsup, "loss_contrast": loss_contrast},
            pseudo=pseudo,
            keep=learned,
        )

    def supervised_step(self, batch: SemiBatch) -> StepOutput:
        """Labeled images alone; the teacher sees them in train mode, which moves nothing but its statistics."""
        logits, embedding = self.student.logits_and_embedding(batch.labeled)
        with torch.no_grad(), in_mode(self.teacher, train=True):
            self.teacher_logits(batch.labeled)
        loss_sup = self.sup_loss(self.student.upsample(logits, batch.labels.shape[-2:]), batch.labels)
        nothing = 0.0 * embedding.sum()  # keeps the head in the graph: all processes reduce the same gradients
        terms = {"loss_sup": loss_sup, "loss_unsup": nothing, "loss_contrast": nothing}
        return StepOutput(loss=loss_sup + nothing, terms=terms)


def rolled(pseudo: PseudoLabels) -> PseudoLabels:
    """Image i gets the labels of image i+1, the last those of the first."""
    return PseudoLabels(*(x.roll(-1, dims=0) for x in (pseudo.labels, pseudo.confidence, pseudo.padded)))
