"""Class-wise masked image modeling: units of an image, the choice of hidden units, and losses over pairs.

A unit is a square of pixels; a pair is one class of one image. The number of pairs per image is fixed and unused ones
are empty, so that no shape depends on a value. Uses torch's random generator. All formulas are ours, see
``semiseg.methods.s4mim``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from semiseg.arguments import checked
from semiseg.errors import InputError
from semiseg.ops.ranges import Count, Share, ShareBelowOne

MIXED, UNUSED = -1, -2  # label of a unit without a dominant class; class of an unused pair


@dataclass
class Units:
    """The units of B images, Gh x Gw each; the last row and column may extend past the border.

    Attributes:
        labels: (B, Gh, Gw) long in [0, C), or ``MIXED``.
        hidden: (B, Gh, Gw) bool.
        size: height and width of a unit in pixels.
    """

    labels: Tensor
    hidden: Tensor
    size: int

    def labels_at(self, grid: Sequence[int], stride: float = 1) -> Tensor:
        """Label of the unit under the center of every cell, (B, *grid); cells are ``stride`` pixels wide."""
        return _at(self.labels, self.size, grid, stride)

    def hidden_at(self, grid: Sequence[int], stride: float = 1) -> Tensor:
        """Whether the unit under the center of every cell is hidden, (B, *grid) bool."""
        return _at(self.hidden, self.size, grid, stride)


@checked
@dataclass(frozen=True)
class Masking:
    """Chooses which units of an image are hidden.

    Args:
        law: ``classwise``: the same ratio of units of every class; ``random``: a ratio of all units (plain masked
            image modeling).
        unit_size: height and width of a unit in pixels; None: see :meth:`for_stride`.
        ratio: fraction of units that are hidden, in [0, 1); 0: none.
        coverage: fraction of a unit that its class must cover, in [0, 1].
    """

    law: Literal["classwise", "random"] = "classwise"
    unit_size: Count | None = None
    ratio: ShareBelowOne = 0.5
    coverage: Share = 0.5

    def for_stride(self, stride: int) -> Masking:
        """The same with units made of whole cells of ``stride`` pixels; by default, the multiple nearest to 32.

        Raises:
            InputError: if the size is not divisible by the stride.
        """
        size = stride * max(1, round(32 / stride)) if self.unit_size is None else self.unit_size
        if size % stride:
            raise InputError(f"method.mask.unit_size={size}: allowed are multiples of {stride}, the encoder's stride")
        return replace(self, unit_size=size)

    @torch.no_grad()
    def __call__(self, labels: Tensor, keep: Tensor, n_classes: int) -> Units:
        """Units from labels (B, H, W) and the pixels to use, (B, H, W) bool."""
        assert self.unit_size is not None, "for_stride comes first"
        of_units = unit_labels(labels, keep, n_classes, self.unit_size, self.coverage)
        groups = of_units if self.law == "classwise" else torch.zeros_like(of_units)
        return Units(of_units, hide(groups, n_classes, self.ratio), self.unit_size)


def unit_labels(labels: Tensor, keep: Tensor, n_classes: int, size: int, coverage: float) -> Tensor:
    """The dominant class of each unit, or ``MIXED``.

    Args:
        labels: (B, H, W) long in [0, C).
        keep: (B, H, W) bool: the pixels to use.
        size: size of a unit in pixels. Pixels past the border do not count.
        coverage: fraction of ``size`` * ``size`` pixels that one class must cover, in [0, 1].

    Returns:
        (B, ceil(H / size), ceil(W / size)) long. Ties are ``MIXED``, so the class order does not matter.
    """
    height, width = labels.shape[-2:]
    labels = F.pad(labels.masked_fill(~keep, n_classes), (0, -width % size, 0, -height % size), value=n_classes)
    pixels = labels.unflatten(2, (-1, size)).unflatten(1, (-1, size)).transpose(2, 3).flatten(3)
    counts = labels.new_zeros((*pixels.shape[:3], n_classes + 1))
    counts.scatter_add_(3, pixels, torch.ones_like(pixels))
    largest, classes = counts[..., :n_classes].topk(2, dim=3)
    mixed = (largest[..., 0] < coverage * size**2) | (largest[..., 0] == largest[..., 1])
    return classes[..., 0].masked_fill(mixed, MIXED)


def hide(labels: Tensor, n_classes: int, ratio: float) -> Tensor:
    """Choose the hidden units, stratified by class: of n >= 2 units m = clamp(round(ratio * n), 1, n - 1).

    Args:
        labels: (B, Gh, Gw) long: labels of units. If all are equal, this is plain random masking.
        ratio: in [0, 1]; 0 hides nothing. ``round`` rounds the float32 product half to even.

    Returns:
        (B, Gh, Gw) bool, uniform over all choices of m units; never a ``MIXED`` unit or the only unit of a class.
    """
    if ratio == 0:
        return torch.zeros_like(labels, dtype=torch.bool)
    groups = labels.flatten(1)
    n = _count(groups, n_classes)
    m = torch.minimum((ratio * n).round().long().clamp(min=1), n - 1)
    m[:, 0] = 0  # mixed units
    rank = _rank_in_group(groups, torch.rand(groups.shape, device=groups.device))
    return (rank < m.gather(1, groups + 1)).view_as(labels)


def choose_classes(units: Units, n_classes: int, limit: int) -> Tensor:
    """The pairs: up to ``limit`` classes per image that have both hidden and visible units.

    Returns:
        (B, N) long, N = min(limit, C): the classes in random order, then ``UNUSED``.
    """
    groups, hidden = units.labels.flatten(1), units.hidden.flatten(1)
    n_hidden = _count(groups.masked_fill(~hidden, MIXED), n_classes)[:, 1:]
    n_visible = _count(groups.masked_fill(hidden, MIXED), n_classes)[:, 1:]
    active = (n_hidden > 0) & (n_visible > 0)
    chosen = (active + torch.rand(active.shape, device=active.device)).topk(min(limit, n_classes), dim=1).indices
    return chosen.masked_fill(~active.gather(1, chosen), UNUSED)


def members(labels: Tensor, classes: Tensor) -> Tensor:
    """Cells of each pair, (B, N, h, w) bool, from the labels (B, h, w) of cells and the classes (B, N) of pairs."""
    return labels[:, None] == classes[..., None, None]


def normalized_per_unit(images: Tensor, size: int) -> Tensor:
    """Images (B, 3, H, W) normalized to mean 0 and variance 1 in every unit, jointly over pixels and channels.

    Source: He et al. 2022 (MAE), section 3, the normalized reconstruction target.
    """

    def mean(x: Tensor) -> Tensor:
        per_unit = F.avg_pool2d(x.mean(dim=1, keepdim=True), size, ceil_mode=True)
        return _at(per_unit, size, (x.shape[-2], x.shape[-1]), 1)

    centered = images - mean(images)
    return centered / (mean(centered.square()) + 1e-6).sqrt()


def reconstruction_loss(reconstruction: Tensor, images: Tensor, region: Tensor) -> Tensor:
    """Absolute difference, averaged over the region and channels of a pair, then over pairs.

    Args:
        reconstruction: (B, N, 3, H, W): one per pair.
        images: (B, 3, H, W): the target.
        region: (B, N, H, W) bool: hidden pixels of the pair.

    Returns:
        Scalar float32; pairs with an empty region do not count; 0 with a graph if all are empty.
    """
    difference = (reconstruction.float() - images[:, None]).abs().mean(dim=2)
    n_pixels = region.sum(dim=(2, 3))
    return _mean_over_pairs((difference * region).sum(dim=(2, 3)) / n_pixels.clamp(min=1), n_pixels > 0)


def feature_aggregation(
    features: Tensor,
    hidden: Tensor,
    visible: Tensor,
    *,
    distance: Literal["cosine", "l2", "proto"] = "cosine",
    detach_visible: bool = True,
) -> Tensor:
    """Distance of the hidden cells of a pair to the mean of its visible cells, averaged over pairs.

    Args:
        features: (B, D, h, w).
        hidden, visible: (B, N, h, w) bool: the cells of each pair.
        distance: ``cosine``: 1 - cosine per cell, in [0, 2]; ``proto``: the same between the two means of unit
            vectors; ``l2``: squared difference of unnormalized features per cell, averaged over channels.
        detach_visible: no gradient into the visible cells.

    Returns:
        Scalar float32; pairs without hidden or without visible cells do not count; 0 with a graph if none count.
    """
    # Otherwise matrix products would run in the autocast type.
    with torch.autocast(features.device.type, enabled=False):
        z = features.float().flatten(2)
        z = z if distance == "l2" else F.normalize(z, dim=1, eps=1e-12)
        prototype, n_visible = _masked_mean(z.detach() if detach_visible else z, visible)
        mean_hidden, n_hidden = _masked_mean(z, hidden)
        if distance == "l2":
            square, _ = _masked_mean(z.square().mean(dim=1, keepdim=True), hidden)
            per_pair = square.squeeze(2) + (prototype.square() - 2 * prototype * mean_hidden).mean(dim=2)
        else:
            # The mean of the cosines is the cosine with the mean.
            mean_hidden = F.normalize(mean_hidden, dim=2) if distance == "proto" else mean_hidden
            per_pair = 1 - (mean_hidden * F.normalize(prototype, dim=2)).sum(dim=2)
        return _mean_over_pairs(per_pair, (n_visible > 0) & (n_hidden > 0))


def _masked_mean(x: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """(B, D, L) and (B, N, h, w) bool to means (B, N, D), 0 where the mask is empty, and counts (B, N)."""
    weight = mask.flatten(2).to(x.dtype)
    n = weight.sum(dim=2)
    return weight @ x.transpose(1, 2) / n.clamp(min=1)[..., None], n


def _mean_over_pairs(values: Tensor, counts: Tensor) -> Tensor:
    return (values * counts).sum() / counts.sum().clamp(min=1)


def _at(values: Tensor, size: int, grid: Sequence[int], stride: float) -> Tensor:
    """(..., Gh, Gw) to (..., *grid): the unit under the center of every cell."""
    rows, columns = (
        ((torch.arange(n, device=values.device) + 0.5) * stride / size).long().clamp(max=last - 1)
        for n, last in zip(grid, values.shape[-2:])
    )
    return values[..., rows[:, None], columns]


def _count(groups: Tensor, n_classes: int) -> Tensor:
    """(B, G) long in [-1, C) to (B, C + 1): number of members of each group, starting with group -1."""
    counts = groups.new_zeros((len(groups), n_classes + 1))
    return counts.scatter_add_(1, groups + 1, torch.ones_like(groups))


def _rank_in_group(groups: Tensor, keys: Tensor) -> Tensor:
    """(B, G) long: how many members of the same group in the same row have a smaller key."""
    order = keys.argsort(dim=1)
    order = order.gather(1, groups.gather(1, order).argsort(dim=1, stable=True))
    position = order.argsort(dim=1)
    return position - torch.searchsorted(groups.gather(1, order), groups.contiguous())
