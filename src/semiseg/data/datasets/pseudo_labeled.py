"""A data set with some masks from a teacher: pseudo-labels that are stored on disk and used as labels."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from semiseg.data.datasets.base import SegmentationDataset
from semiseg.data.readers.masks import read_index_mask
from semiseg.errors import InputError

RECORD = "pseudo_labels.json"
"""File in a folder of pseudo-labels that records how they were made. It is written last."""


@dataclass(frozen=True)
class PseudoLabels:
    """A finished folder of pseudo-labels.

    Attributes:
        folder: contains ``masks/ID.png``, class indices and 255 for pixels where the teacher was not confident.
        ids: images with at least one confident pixel, sorted.
        record: ``run`` and ``checkpoint_sha256`` of the teacher, ``network``, ``threshold``, ``images`` (how many),
            ``share`` of their pixels that are labeled, and ``masks_sha256``; plain values, for results.
    """

    folder: Path
    ids: tuple[str, ...]
    record: dict[str, Any]

    def mask_file(self, image_id: str) -> Path:
        """Path of the mask of an image."""
        return self.folder / "masks" / f"{image_id}.png"

    def told(self) -> str:
        """One-line note for readers of the results."""
        r = self.record
        checkpoint, percent = r["checkpoint_sha256"][:8], f"{100 * r['share']:.0f} %"
        return (
            f"the labels of {r['images']} images are pseudo-labels of {r['run']}, checkpoint {checkpoint}: "
            f"{percent} of their pixels, with a probability of at least {r['threshold']:g}"
        )


def masks_sha256(folder: Path, ids: Sequence[str]) -> str:
    """Hash over names and contents of the masks of a folder of pseudo-labels.

    Raises:
        OSError: if one of them is missing.
    """
    digest = hashlib.sha256()
    for image_id in sorted(ids):
        content = (folder / "masks" / f"{image_id}.png").read_bytes()
        digest.update(f"{image_id} {hashlib.sha256(content).hexdigest()}\n".encode())
    return digest.hexdigest()


def read_pseudo_labels(folder: Path, classes: Sequence[str]) -> PseudoLabels:
    """Read a folder, and check that its masks have not been modified.

    Raises:
        InputError: if it contains no complete pseudo-labels, if they were modified, or have other classes.
    """
    again = "call semiseg distill again"
    try:
        content = json.loads((folder / RECORD).read_text(encoding="utf-8"))
        ids, theirs, record = content.pop("ids"), content.pop("classes"), content
        if not ids:
            raise InputError(f"pseudo_labels={folder}: the teacher was sure of no pixel: give a lower threshold")
        same = masks_sha256(folder, ids) == record["masks_sha256"]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"pseudo_labels={folder}: no finished pseudo-labels ({error}); {again}") from None
    if not same:
        raise InputError(f"pseudo_labels={folder}: the masks were changed since they were made; remove it and {again}")
    if list(theirs) != list(classes):
        raise InputError(
            f"pseudo_labels={folder}: of the classes {', '.join(theirs)}, the data has {', '.join(classes)}"
        )
    return PseudoLabels(folder, tuple(sorted(ids)), record)


class PseudoLabeled(SegmentationDataset):
    """A wrapper of another data set that replaces masks that must not be opened by those of a teacher.

    Args:
        base: source of the images and all other masks.
        labels: the masks of the teacher.
    """

    def __init__(self, base: SegmentationDataset, labels: PseudoLabels) -> None:
        self.base, self.labels = base, labels
        self._ids = frozenset(labels.ids)
        self.name, self.classes, self.palette = base.name, base.classes, base.palette
        self.mean, self.std, self.variant, self.blank = base.mean, base.std, base.variant, base.blank
        self.balance, self.channels = base.balance, base.channels
        self.root = getattr(base, "root", None)

    def ids(self, split: str) -> list[str]:
        """Same as the base."""
        return self.base.ids(split)

    def load_image(self, image_id: str) -> np.ndarray:
        """Same as the base."""
        return self.base.load_image(image_id)

    def load_mask(self, image_id: str) -> np.ndarray:
        """(H, W) uint8: the teacher's mask if there is one, otherwise the base's."""
        return (
            read_index_mask(self.labels.mask_file(image_id)) if image_id in self._ids else self.base.load_mask(image_id)
        )

    def has_mask(self, image_id: str) -> bool:
        """Whether the teacher or the base has a mask."""
        return image_id in self._ids or self.base.has_mask(image_id)

    def group(self, image_id: str) -> str:
        """Same as the base."""
        return self.base.group(image_id)

    def locate(self, image_id: str) -> str:
        """Same as the base."""
        return self.base.locate(image_id)

    def image_file(self, image_id: str) -> Path | None:
        """Same as the base."""
        return self.base.image_file(image_id)

    def mask_file(self, image_id: str) -> Path | None:
        """That of the teacher, where it made one."""
        return self.labels.mask_file(image_id) if image_id in self._ids else self.base.mask_file(image_id)

    @property
    def value_range(self) -> tuple[float, float] | None:
        """Same as the base."""
        return self.base.value_range

    def adopt_range(self, measured: Sequence[float] | None) -> None:
        """Same as the base."""
        self.base.adopt_range(measured)

    def strays(self) -> dict[str, list[str]]:
        """Same as the base."""
        return self.base.strays()
