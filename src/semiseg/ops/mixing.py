"""CutMix and ClassMix on whole batches. All randomness comes with the batch; box distributions: ``ops.boxes``."""

from __future__ import annotations

from typing import Literal, Protocol

import torch
from torch import Tensor

from semiseg.ops.pseudo import PseudoLabels

Order = Literal["flip", "next"]
"""Which image of the batch is pasted into image i. ``flip``: image B-1-i; ``next``: image i+1, cyclically."""


class StrongViews(Protocol):
    """The parts of a batch that CutMix reads: ``strong`` (V, B, 3, H, W) and ``boxes`` (V, B, R, 4)."""

    strong: Tensor
    boxes: Tensor


def cutmix(
    views: StrongViews,
    pseudo: PseudoLabels,
    *,
    view: int = 0,
    order: Order = "flip",
    partner: tuple[StrongViews, PseudoLabels] | None = None,
    mask: Tensor | None = None,
) -> tuple[Tensor, PseudoLabels]:
    """Paste a part of another image into every image of one strong view, and mix the pseudo-labels accordingly.

    Args:
        views: the images and their boxes.
        pseudo: labels of the weak views of the same images.
        view: index of the strong view in [0, V).
        order: which image of the batch is pasted.
        partner: images to paste from instead of those of the batch, and their labels.
        mask: (B, H, W) bool, pixels to paste; None: the boxes of the view.

    Returns:
        The mixed images (B, 3, H, W) and their labels.
    """
    images = views.strong[view]
    if mask is None:
        mask = box_mask(views.boxes[view], *images.shape[-2:])
    if partner is None:
        return with_partner(mask, images, order), pseudo.mixed(mask, pseudo.map(lambda x: reordered(x, order)))
    source, labels = partner
    return paste(mask, source.strong[view], images), pseudo.mixed(mask, labels)


def reordered(x: Tensor, order: Order) -> Tensor:
    """(B, ...) with each item replaced by its partner."""
    return x.flip(0) if order == "flip" else x.roll(-1, dims=0)


def with_partner(mask: Tensor, x: Tensor, order: Order) -> Tensor:
    """Images, maps or labels (B, ...), replaced by those of the partner where ``mask`` (B, H, W) is True."""
    return paste(mask, reordered(x, order), x)


def paste(mask: Tensor, source: Tensor, target: Tensor) -> Tensor:
    """``source`` where the mask is True, ``target`` elsewhere.

    Args:
        mask: (B, H, W) bool.
        source, target: (B, H, W) or (B, C, H, W).
    """
    return torch.where(mask if source.ndim == mask.ndim else mask.unsqueeze(1), source, target)


def box_mask(boxes: Tensor, height: int, width: int) -> Tensor:
    """Masks that are True inside an odd number of an image's boxes (inside the box if there is only one).

    Args:
        boxes: (B, R, 4) long: y0, x0, y1, x1 in pixels, end exclusive. y0 = y1 or x0 = x1: no box.

    Returns:
        (B, H, W) bool.
    """
    y = torch.arange(height, device=boxes.device)[:, None]
    x = torch.arange(width, device=boxes.device)[None, :]
    y0, x0, y1, x1 = boxes[..., None, None].unbind(dim=2)
    inside = (y >= y0) & (y < y1) & (x >= x0) & (x < x1)
    return inside.sum(dim=1) % 2 == 1


def class_mask(labels: Tensor, scores: Tensor, padded: Tensor | None = None) -> Tensor:
    """Masks of a random half (rounded down) of the classes present in each image.

    Args:
        labels: (B, H, W) long in [0, C): pseudo-labels.
        scores: (B, C) float: the present classes with the smallest scores are chosen.
        padded: (B, H, W) bool: pixels that are ignored and never in the mask.

    Returns:
        (B, H, W) bool: the part of the image that ClassMix keeps; the rest comes from another image.
        Empty if only one class is present.
    Source: Olsson et al. 2021 (ClassMix), Algorithm 1.
    """
    n_classes = scores.shape[1]
    if padded is not None:
        labels = labels.masked_fill(padded, n_classes)
    present = labels.new_zeros((len(labels), n_classes + 1), dtype=torch.bool)
    present.scatter_(1, labels.flatten(1), True)
    present[:, n_classes] = False
    order = torch.cat([scores, scores.new_zeros(len(scores), 1)], dim=1).masked_fill(~present, torch.inf)
    rank = order.argsort(dim=1).argsort(dim=1)
    chosen = present & (rank < (present.sum(dim=1, keepdim=True) // 2))
    return chosen.gather(1, labels.flatten(1)).view_as(labels)
