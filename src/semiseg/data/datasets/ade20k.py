"""ADE20K for scene parsing, 150 classes, as in the archive ADEChallengeData2016."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Literal

import cv2
import numpy as np

from semiseg.arguments import checked
from semiseg.data.batch import IGNORE
from semiseg.data.datasets.ade20k_classes import CLASSES
from semiseg.data.datasets.base import Balance, ListedDataset
from semiseg.data.datasets.layout import find_root, require_images
from semiseg.data.readers.listing import list_images
from semiseg.data.readers.masks import read_index_mask, reject_labels
from semiseg.errors import InputError, suggest

Labels = Literal["auto", "official", "mapped"]

_FOLDERS = {"train": "training", "val": "validation"}
_SAMPLED = 50  # masks
_TO_INDEX = np.array([IGNORE, *range(255)], np.uint8)  # for official masks: 0 -> 255, n -> n - 1


@checked
class ADE20K(ListedDataset):
    """Images `images/{training,validation}/<id>.jpg` with masks `annotations/{training,validation}/<id>.png`.

    Two formats of masks are in use. **Official** masks count classes from 1 and use 0 for pixels without a class,
    which are ignored; **mapped** masks, provided by UniMatch V2, count from 0 and use 255. Mixing the two up shifts
    every class index by one. "auto" checks 50 evenly spaced masks of both splits: a value of 150 in any of them means
    official; otherwise 255 means mapped; otherwise official is assumed. Every mask is checked when it is read, so a
    wrong guess raises an error that says which format to set.

    Args:
        root: the folder `ADEChallengeData2016`, or its parent.
        labels: "official", "mapped", or "auto".
        balance: "classes": labeled crops show rare classes more often, see `ClassBalance`.

    Source: Zhou et al. 2017; data.csail.mit.edu/places/ADEchallenge.
    """

    name = "ade20k"
    classes = tuple(name for name, _ in CLASSES)
    palette = tuple(color for _, color in CLASSES)

    def __init__(self, root: str | Path | None, labels: Labels = "auto", balance: Balance | None = None):
        what = "ADE20K, with images/training, annotations/training and their validation/ in it"
        self.root = find_root(root, "images/training", ["ADEChallengeData2016"], what)
        self._labels, self.balance = labels, balance
        self._ids: dict[str, list[str]] = {}
        self._images = {}
        self._masks = {}
        for split, folder in _FOLDERS.items():
            images = list_images(self.root / "images" / folder)
            self._ids[split] = list(images)
            self._images.update(images)
            self._masks.update(list_images(self.root / "annotations" / folder))

    @cached_property
    def labels(self) -> Labels:
        """Either "official" or "mapped"; with "auto", masks are opened on first access."""
        if self._labels != "auto":
            return self._labels
        paths = list(self._masks.values())
        ignored = False
        for path in paths[:: -(-len(paths) // _SAMPLED) or 1]:
            try:
                mask = read_index_mask(path)
            except InputError:  # load_mask raises it again
                continue
            if (mask == len(CLASSES)).any():
                return "official"
            ignored |= bool((mask == IGNORE).any())
        return "mapped" if ignored else "official"

    def ids(self, split: str) -> list[str]:
        """Sorted stems of "train" or "val". Raises InputError if images or masks of the split are missing."""
        if split not in _FOLDERS:
            raise InputError(f"ade20k has no split '{split}': {suggest(split, _FOLDERS)}")
        images, masks = (self.root / kind / _FOLDERS[split] for kind in ("images", "annotations"))
        if not self._ids[split]:
            raise InputError(f"no images in {images}: extract the whole archive")
        labeled = list_images(masks)
        if not labeled:
            raise InputError(f"no masks in {masks}: extract the whole archive")
        require_images(labeled, self._images, masks, images)
        return list(self._ids[split])

    def load_mask(self, image_id: str) -> np.ndarray:
        """(H, W) uint8: class index, or 255 for pixels without a class."""
        path = self._path(self._masks, image_id, "mask")
        mask = read_index_mask(path)
        if self.labels == "mapped":
            bad = (mask >= len(CLASSES)) & (mask != IGNORE)
            other = "official masks contain 0..150: data.labels=official"
            reject_labels(path, bad, mask, f"expected 0..149 or 255 of mapped masks; {other}")
            return mask
        other = "mapped masks contain 0..149 and 255: data.labels=mapped"
        reject_labels(path, mask > len(CLASSES), mask, f"expected 0..150 of official masks; {other}")
        return cv2.LUT(mask, _TO_INDEX)
