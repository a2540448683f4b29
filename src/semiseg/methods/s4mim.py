"""S4MIM: class-wise masked image modeling on top of another method."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Literal, cast

import torch
from torch import Tensor, nn

from semiseg.arguments import checked
from semiseg.data.batch import IGNORE, SemiBatch
from semiseg.methods.base import Parts, SemiMethod, StepOutput
from semiseg.methods.on_top import OnTop
from semiseg.models.layers import kept_statistics
from semiseg.models.reconstruction import MaskToken, ReconstructionDecoder
from semiseg.ops import masking
from semiseg.ops.losses import unsupervised_cross_entropy
from semiseg.ops.masking import Masking, Units
from semiseg.ops.pseudo import PseudoLabels
from semiseg.ops.ranges import Count, Share, Weight


@checked
class S4MIM(OnTop):
    """S4MIM (re-derived from the abstract of arXiv 2411.08756; not the authors' implementation).

    Parts of every class in the weak view are hidden. The hidden pixels are reconstructed class by class, only from
    features of that class (``loss_mim``), hidden features are pulled toward the mean of the visible features of their
    class (``loss_fa``), and the masked view must be segmented like the full one (``loss_sem``). Everything else is the
    base method.

    Source: Li et al. 2024, the abstract: it states the three terms, and that classes are reconstructed independently.
        The full paper was not available and its announced code is empty, so formulas, layers and defaults are ours.
    Differs from the paper: unknown. Our reading isolates a class in the reconstruction decoder; the encoder has seen
        all visible pixels. ``loss_sem`` could also mean completing a masked label map: replace :meth:`semantic_loss`.
        Batch norm uses the statistics of the masked batch but does not update its running ones (UniMatch's author
        reports harm from distorted images), so DeepLabv3+ needs two unlabeled images per process. Means over the pairs
        of an image and a class are per process.

    Args:
        base: see :class:`OnTop`.
        mim_weight, fa_weight, sem_weight: weights of the three terms; 0: not computed.
        ramp: fraction of the run over which the weights of ``loss_mim`` and ``loss_fa`` rise from 0.
        conf_threshold: minimum confidence; None: the base's.
        mask: what is hidden; None: the defaults of ``Masking``.
        fill: color of hidden pixels: ``zero`` (the mean of the data set) or ``learned``.
        classwise: reconstruct class by class; False: the whole image at once.
        max_classes: number of randomly drawn classes per image that are used for ``loss_mim`` and ``loss_fa``.
        target: ``rgb`` or ``patchnorm`` (mean 0, variance 1 in each unit).
        fa_distance, fa_detach_visible: see :func:`semiseg.ops.masking.feature_aggregation`.
        sem_where: ``all`` confident pixels, or only the ``masked`` ones.
        on_labeled: mask the labeled images as well, by their labels.
    """

    def __init__(
        self,
        parts: Parts,
        *,
        base: Callable[[Parts], SemiMethod],
        mim_weight: Weight = 0.1,
        fa_weight: Weight = 0.1,
        sem_weight: Weight = 0.25,
        ramp: Share = 0.05,
        conf_threshold: Share | None = None,
        mask: Masking | None = None,
        fill: Literal["zero", "learned"] = "zero",
        classwise: bool = True,
        max_classes: Count = 4,
        target: Literal["rgb", "patchnorm"] = "rgb",
        fa_distance: Literal["cosine", "l2", "proto"] = "cosine",
        fa_detach_visible: bool = True,
        sem_where: Literal["all", "masked"] = "all",
        on_labeled: bool = False,
    ) -> None:
        super().__init__(parts, base=base)
        self.mim_weight, self.fa_weight, self.sem_weight, self.ramp = mim_weight, fa_weight, sem_weight, ramp
        self.conf_threshold = cast(float, self.base.conf_threshold) if conf_threshold is None else conf_threshold
        self.classwise, self.max_classes, self.target = classwise, max_classes, target
        self.fa_distance, self.fa_detach_visible = fa_distance, fa_detach_visible
        self.sem_where, self.on_labeled = sem_where, on_labeled

        stride, channels = self.student.encoder.reductions[-1], self.student.decoder.context_channels
        self.mask = (mask or Masking()).for_stride(stride)
        self.reconstruction = ReconstructionDecoder(channels, stride) if mim_weight else None
        self.token = MaskToken() if fill == "learned" and (mim_weight or fa_weight or sem_weight) else None

    def step(self, batch: SemiBatch) -> StepOutput:
        """Loss = base loss + ramp * (mim_weight * loss_mim + fa_weight * loss_fa) + sem_weight * loss_sem."""
        out, pseudo_w = self.base_step(batch)
        if not (self.mim_weight or self.fa_weight or self.sem_weight):
            return out
        images, pseudo = self.whole_views(batch, pseudo_w)
        keep = pseudo.keep(self.conf_threshold)
        units = self.mask(pseudo.labels, keep, self.num_classes)
        hidden = units.hidden_at(images.shape[-2:])
        classes = masking.choose_classes(units, self.num_classes, self.max_classes)

        # One pass over the masked images for all three terms.
        fill, decoder = 0.0 if self.token is None else self.token(), self.student.decoder
        with kept_statistics(self.student):
            features = self.student.features(torch.where(hidden[:, None], fill, images))
            context = decoder.context(features)
            decoded = decoder.refine(decoder.join(features, context)) if self.fa_weight or self.sem_weight else context

        loss, terms = out.loss, dict(out.terms)
        ramp = min(self.progress / self.ramp, 1.0) if self.ramp else 1.0
        if self.mim_weight:
            terms["loss_mim"] = self.image_loss(context, images, hidden & ~pseudo.padded, units, classes)
            loss = loss + ramp * self.mim_weight * terms["loss_mim"]
        if self.fa_weight:
            # A decoded map covers the same area as the finest encoder map.
            stride = self.student.encoder.reductions[0] * features[0].shape[-2] / decoded.shape[-2]
            terms["loss_fa"] = self.feature_loss(decoded, stride, units, classes)
            loss = loss + ramp * self.fa_weight * terms["loss_fa"]
        if self.sem_weight:
            terms["loss_sem"] = self.semantic_loss(decoded, pseudo, keep, hidden)
            loss = loss + self.sem_weight * terms["loss_sem"]
        terms |= {"active_pairs": (classes >= 0).sum() / len(classes), "masked_ratio": hidden.float().mean()}
        return dataclasses.replace(out, loss=loss, terms=terms)

    def image_loss(self, context: Tensor, images: Tensor, hidden: Tensor, units: Units, classes: Tensor) -> Tensor:
        """Reconstruct the ``hidden`` pixels (B, H, W) of ``images`` from ``context``, each class from its own cells."""
        assert self.reconstruction is not None
        if not self.classwise:  # the whole image as a single class
            units = dataclasses.replace(units, labels=torch.zeros_like(units.labels))
            classes = masking.choose_classes(units, n_classes=1, limit=1)
        size = images.shape[-2:]
        gates = masking.members(units.labels_at(context.shape[-2:], self.reconstruction.stride), classes)
        region = masking.members(units.labels_at(size), classes) & hidden[:, None]
        target = masking.normalized_per_unit(images, units.size) if self.target == "patchnorm" else images
        return masking.reconstruction_loss(self.reconstruction(context, gates, size), target, region)

    def feature_loss(self, decoded: Tensor, stride: float, units: Units, classes: Tensor) -> Tensor:
        """Pull hidden cells of ``decoded`` toward the visible cells of their class."""
        grid = decoded.shape[-2:]
        cells, hidden = masking.members(units.labels_at(grid, stride), classes), units.hidden_at(grid, stride)[:, None]
        return masking.feature_aggregation(
            decoded, cells & hidden, cells & ~hidden, distance=self.fa_distance, detach_visible=self.fa_detach_visible
        )

    def semantic_loss(self, decoded: Tensor, pseudo: PseudoLabels, keep: Tensor, hidden: Tensor) -> Tensor:
        """Segment the masked images like the full ones; the only place that defines ``loss_sem``."""
        keep = keep & hidden if self.sem_where == "masked" else keep
        logits = self.student.classify(decoded, hidden.shape[-2:])
        return unsupervised_cross_entropy(logits, pseudo.labels, keep, pseudo.padded)

    def whole_views(self, batch: SemiBatch, pseudo: PseudoLabels) -> tuple[Tensor, PseudoLabels]:
        """The images to mask and their labels: weak views, plus labeled images with ``on_labeled``."""
        if not self.on_labeled:
            return batch.unlabeled.weak, pseudo
        void = batch.labels == IGNORE
        truth = (batch.labels.masked_fill(void, 0), torch.ones_like(batch.labels, dtype=torch.float), void)
        both = zip((pseudo.labels, pseudo.confidence, pseudo.padded), truth)
        return torch.cat([batch.unlabeled.weak, batch.labeled]), PseudoLabels(*(torch.cat(pair) for pair in both))

    def trained(self) -> list[nn.Module]:
        """The modules that the base trains, and the heads of masked image modeling."""
        return [*super().trained(), *(head for head in (self.reconstruction, self.token) if head is not None)]
