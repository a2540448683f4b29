"""U2PL: unreliable pseudo-labels as negatives in a pixel contrast."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Annotated, Literal

import torch
from pydantic import Field

from semiseg.arguments import checked
from semiseg.data.batch import IGNORE, SemiBatch, ViewSpec
from semiseg.methods.base import Parts, StepOutput
from semiseg.methods.networks import in_mode
from semiseg.methods.teacher import TeacherMethod
from semiseg.models.representation import RepresentationSegmentor
from semiseg.ops.contrast import PixelContrast, Pixels, entropy, percentiles
from semiseg.ops.distributed import world_size
from semiseg.ops.ema import Ema
from semiseg.ops.losses import cross_entropy
from semiseg.ops.mixing import box_mask, cutmix
from semiseg.ops.pseudo import probabilities, pseudo_label
from semiseg.ops.ranges import Share, ShareBelowOne, Weight
from semiseg.ops.schedules import CopyThenWarmup


@checked
class U2PL(TeacherMethod):
    """Certain pixels are learned from their label; uncertain pixels are negatives of the classes they rank low.

    The teacher labels the clean images in eval mode. On the mixed images it runs a second time, in train mode (batch
    statistics, dropout); that pass provides entropy, class ranks, and the vectors of prototypes and negatives.

    Source: Wang et al. 2022 (CVPR, arXiv 2203.03884). ``method=u2pl`` follows the paper's rules and, where the paper
        gives no value or the code is known to work better, the values of the released code. ``method=u2pl_released``
        follows the code, including its class list bug, with one exception: the code scatters its one-hot labels along
        the wrong axis, so the contrast treats image 0 as having the union of all images' labels and the others as
        unlabeled. Ours is the paper's contrast, which differs from the code's by 42 to 45 %.
    Differs from both: warm-up and the first epoch, in which the teacher is a copy, are fractions of the run; the
        fraction of uncertain pixels decreases at every step, not at every epoch; padding is neither labeled nor a
        negative (see ``transforms.padding_label``); for the rest see :class:`PixelContrast`. Omitted: auxiliary head,
        CutOut.

    Args:
        contrast: (num_classes) -> the contrast.
        warmup: fraction of the run on labeled images only: 1/80 on VOC, on Cityscapes 20/200 (paper) or 0 (code).
        teacher_in_warmup: the teacher ``follows`` the student from the first step, or ``waits`` with its initial
            weights until the warm-up ends (code), which changes its first labels, through BatchNorm, by up to 6 % of
            the loss.
        copy: fraction of the run after the warm-up in which the teacher is a copy of the student: one epoch in the
            code.
        max_decay: maximum EMA decay of the teacher, which collects its own BatchNorm statistics.
        drop_percent: initial alpha, the percentage of uncertain pixels; decreases linearly to 0.
        contrast_weight: lambda_c.
        divide_by_ranks: divide the gradient of the contrast by the number of processes, as in the code.
        anchor_entropy: unlabeled anchors are all pixels except the most uncertain (``not_high``, paper), or only the
            alpha percent that are most certain (``lowest``, code).
        cutmix_prob: probability that the whole batch is mixed, image i with image i+1.
        strong_colors: mixed images get color jitter and blur as well; ours.
    """

    student: RepresentationSegmentor
    teacher: RepresentationSegmentor

    def __init__(
        self,
        parts: Parts,
        *,
        contrast: Callable[[int], PixelContrast],
        warmup: Share = 0.0125,
        teacher_in_warmup: Literal["follows", "waits"] = "follows",
        copy: Share = 0.0125,
        max_decay: ShareBelowOne = 0.99,
        drop_percent: Annotated[float, Field(ge=0, le=100)] = 20.0,
        contrast_weight: Weight = 0.1,
        divide_by_ranks: bool = False,
        anchor_entropy: Literal["not_high", "lowest"] = "not_high",
        cutmix_prob: Share = 0.5,
        strong_colors: bool = False,
    ) -> None:
        pixel_contrast = contrast(len(parts.classes))
        self.warmup_steps = round(warmup * parts.max_steps)
        copies, waits = round((warmup + copy) * parts.max_steps), teacher_in_warmup == "waits"
        decay = CopyThenWarmup(self.warmup_steps, copies, max_decay, waits)
        with_head = partial(RepresentationSegmentor, dim=pixel_contrast.dim)
        super().__init__(
            dataclasses.replace(parts, network=lambda: with_head(parts.network())), ema=Ema(decay, buffers="keep")
        )
        self.contrast = pixel_contrast
        self.view_spec = ViewSpec(strong=1, recolored=strong_colors, cutmix_law="u2pl")
        self.drop_percent, self.cutmix_prob, self.anchor_entropy = drop_percent, cutmix_prob, anchor_entropy
        self.contrast_weight, self.divide_by_ranks = contrast_weight, divide_by_ranks
        # All processes push the same vectors, so DDP need not broadcast some 100 MB before every forward pass.
        self._ddp_params_and_buffers_to_ignore = [n for n, _ in self.named_buffers() if n.startswith("contrast.queues")]

    @property
    def alpha(self) -> float:
        """Current percentage of uncertain pixels."""
        return self.drop_percent * (1 - self.progress)

    def step(self, batch: SemiBatch) -> StepOutput:
        """Loss = loss_sup + loss_unsup + contrast_weight * loss_contrast."""
        if self.steps_done < self.warmup_steps:
            return self.supervised_step(batch)
        u, size, n_l = batch.unlabeled, batch.labeled.shape[-2:], len(batch.labeled)
        pseudo = pseudo_label(probabilities(self.teacher_logits(u.weak)), u.padded)
        box = box_mask(u.boxes[0], *size) & (torch.rand((), device=u.padded.device) < self.cutmix_prob)
        mixed, target = cutmix(u, pseudo, order="next", mask=box)
        images = torch.cat([batch.labeled, mixed])

        logits, embedding = self.student.logits_and_representation(images)
        logits_l, logits_u = self.student.upsample(logits, size).split([n_l, len(mixed)])
        with torch.no_grad(), in_mode(self.teacher, train=True):
            teacher_logits, teacher_embedding = self.teacher.logits_and_representation(images)
            teacher_prob_u = probabilities(self.teacher.upsample(teacher_logits[n_l:], size))

        # Pixels are ranked by entropy: the top alpha percent are not learned but become negatives.
        uncertainty, in_image = entropy(teacher_prob_u), ~target.padded
        lowest, highest = percentiles(uncertainty, in_image, (self.alpha, 100 - self.alpha))
        reliable, unreliable = in_image & (uncertainty < highest), in_image & (uncertainty >= highest)
        certain = reliable if self.anchor_entropy == "not_high" else in_image & (uncertainty <= lowest)

        loss_sup = self.sup_loss(logits_l, batch.labels)
        loss_unsup = cross_entropy(logits_u, target.labels.masked_fill(~reliable, IGNORE))
        loss_unsup = loss_unsup * reliable.numel() / reliable.sum().clamp(min=1)

        has_label = batch.labels != IGNORE
        pixels = Pixels.from_maps(
            labels=torch.cat([batch.labels, target.labels]),
            certain=torch.cat([has_label, certain]),
            uncertain=torch.cat([has_label, unreliable]),
            has_label=torch.cat([has_label, in_image]),
            prob=probabilities(teacher_logits),
            n_labeled=n_l,
        )
        loss_contrast = self.contrast(pixels, embedding, teacher_embedding)
        weight = self.contrast_weight / (world_size() if self.divide_by_ranks else 1)
        # A pixel of image i is learned in its own image, or where it is pasted into the previous one.
        keep = (reliable & ~box) | (reliable & box).roll(1, dims=0)
        return StepOutput(
            loss=loss_sup + loss_unsup + weight * loss_contrast,
            terms={"loss_sup": loss_sup, "loss_unsup": loss_unsup, "loss_contrast": loss_contrast},
            pseudo=pseudo,
            keep=keep,
        )

    def supervised_step(self, batch: SemiBatch) -> StepOutput:
        """Labeled images only; the teacher sees them in train mode, which updates only its statistics."""
        logits, embedding = self.student.logits_and_representation(batch.labeled)
        with torch.no_grad(), in_mode(self.teacher, train=True):
            self.teacher_logits(batch.labeled)
        loss_sup = self.sup_loss(self.student.upsample(logits, batch.labels.shape[-2:]), batch.labels)
        nothing = 0.0 * embedding.sum()  # keeps the head in the graph, so all processes reduce the same gradients
        terms = {"loss_sup": loss_sup, "loss_unsup": nothing, "loss_contrast": nothing}
        return StepOutput(loss=loss_sup + nothing, terms=terms)
