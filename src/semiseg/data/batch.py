"""The batches that the data side passes to a method: the only interface between the two."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, Self, TypeVar

from torch import Tensor

from semiseg.ops.boxes import CutmixLaw
from semiseg.ops.losses import IGNORE as IGNORE


@dataclass(frozen=True)
class ViewSpec:
    """What a method requires of the unlabeled stream.

    Args:
        strong: number of strong views per unlabeled image; they share the geometry of the weak view.
        recolored: strong views get color jitter and blur; False: they are copies of the weak view, for methods whose
            only strong augmentation is mixing (U2PL).
        labeled_strong: labeled images get color jitter and blur as well (AllSpark).
        cutmix_law: how CutMix boxes are drawn unless ``transforms.cutmix_law`` says otherwise, see
            ``semiseg.ops.boxes``.
        partner: source of the image that CutMix pastes from. ``flip``: the reversed batch (UniMatch V2);
            ``same_image``: the same images with another augmentation, as in the released UniMatch code; ``other``: an
            independent draw of unlabeled images. The last two add a second unlabeled batch.
    """

    strong: int = 0
    recolored: bool = True
    labeled_strong: bool = False
    cutmix_law: CutmixLaw = "unimatch"
    partner: Literal["flip", "same_image", "other"] = "flip"


class OfTensors:
    """A dataclass of tensors that Lightning moves to the device."""

    def to(self, *args: Any, **kwargs: Any) -> Self:
        """Move every tensor."""
        return _map_tensors(self, lambda t: t.to(*args, **kwargs))

    def pin_memory(self) -> Self:
        """Pin every tensor."""
        return _map_tensors(self, lambda t: t.pin_memory())


@dataclass
class Views(OfTensors):
    """Weak and strong views of B unlabeled images; V strong views each, with the geometry of the weak view."""

    weak: Tensor  # (B, 3, H, W) float, normalized
    strong: Tensor  # (V, B, 3, H, W) float, normalized
    padded: Tensor  # (B, H, W) bool, True where the crop is outside the image
    boxes: Tensor  # (V, B, R, 4) long: y0, x0, y1, x1 of R CutMix boxes in pixels, combined by XOR; all zero: no box
    class_scores: Tensor  # (V, B, C) float in [0, 1): a random order of the classes, for ClassMix
    ids: list[str]
    truth: Tensor | None = None  # (B, H, W) long, hidden ground truth; only with diagnostics.pseudo_labels=true


@dataclass
class LabeledBatch(OfTensors):
    """One training batch of a method that uses labeled images only."""

    labeled: Tensor  # (B_l, 3, H, W) float, normalized
    labels: Tensor  # (B_l, H, W) long in [0, C) or IGNORE
    ids: list[str]


@dataclass
class SemiBatch(LabeledBatch):
    """One training batch of a method that uses unlabeled images as well."""

    unlabeled: Views
    partner: Views | None = None  # a second draw to paste from, see ViewSpec.partner


T = TypeVar("T")


def _map_tensors(obj: T, f: Callable[[Tensor], Tensor]) -> T:
    def visit(value: Any) -> Any:
        if isinstance(value, Tensor):
            return f(value)
        return _map_tensors(value, f) if dataclasses.is_dataclass(value) else value

    values: Any = obj  # typing has no bound for dataclasses
    return dataclasses.replace(values, **{x.name: visit(getattr(obj, x.name)) for x in dataclasses.fields(values)})
