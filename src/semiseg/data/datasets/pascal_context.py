"""PASCAL-Context: the images of VOC 2010 with labels for the whole scene, 60 or 59 classes."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import cv2
import numpy as np

from semiseg.arguments import checked
from semiseg.data.batch import IGNORE
from semiseg.data.datasets.base import Balance, ListedDataset
from semiseg.data.datasets.layout import find_root, require_images
from semiseg.data.datasets.pascal_context_classes import CLASSES, VOC_CLASSES
from semiseg.data.partitions.list_files import list_text
from semiseg.data.readers.listing import file_is_there, list_images
from semiseg.data.readers.masks import read_index_mask, reject_labels
from semiseg.errors import InputError, suggest

Order = Literal["alphabetical", "voc_first"]

_SPLITS = ("train", "val")
_MASKS, _MASKS_BY_SPLIT = "SegmentationClassContext", "SegmentationClassContext60"
_LISTS = "ImageSets/SegmentationContext"
_WITHOUT_BACKGROUND = np.array([IGNORE, *range(254), IGNORE], np.uint8)  # 0 -> 255, n -> n - 1; 255 stays


@checked
class PascalContext(ListedDataset):
    """Images `JPEGImages/<id>.jpg` with masks of 60 values (0 background, 1..59) in one of two layouts.

    1. `SegmentationClassContext/<id>.png` with lists `ImageSets/SegmentationContext/{train,val}.txt`, as the
       converter of mmsegmentation writes them;
    2. `SegmentationClassContext60/{train,val}/<id>.png`, as provided by SemiOVS; the folder defines the split.

    The `.mat` files of the original release, with 459 classes, are not supported: convert them to layout 1 first.

    Two class orders are in use, and a mask does not reveal which one it has, so ``order`` must specify it. The wrong
    order gives plausible numbers under the wrong class names. "voc_first" is derived here from the alphabetical order
    (background, the 20 VOC classes in VOC order, the others in alphabetical order), as no published list was
    available: compare a few masks with their images before you trust it.

    Args:
        root: `VOC2010`, or the folder that contains it or `VOCdevkit`.
        classes: 60 scores background as a class; with 59 it is ignored and the others count from 0.
        order: class order of the mask values: "alphabetical" (both layouts above) or "voc_first".
        balance: "classes": labeled crops show rare classes more often, see `ClassBalance`.

    Source: Mottaghi et al. 2014; cs.stanford.edu/~roozbeh/pascal-context.
    """

    name = "pascal_context"

    def __init__(
        self,
        root: str | Path | None,
        classes: Literal[60, 59] = 60,
        order: Order = "alphabetical",
        balance: Balance | None = None,
    ):
        self.balance = balance
        chosen = class_table(order)[60 - classes :]
        self.classes = tuple(name for name, _ in chosen)
        self.palette = tuple(color for _, color in chosen)
        what = "PASCAL-Context, VOC2010 with JPEGImages and SegmentationClassContext in it"
        self.root = find_root(root, "JPEGImages", ["VOC2010", "VOCdevkit/VOC2010"], what)
        self._images = list_images(self.root / "JPEGImages")
        self._masks = list_images(self.root / _MASKS)
        self._ids: dict[str, list[str]] = {}
        if not self._masks:
            for split in _SPLITS:
                found = list_images(self.root / _MASKS_BY_SPLIT / split)
                self._ids[split] = list(found)
                self._masks.update(found)
        if not self._masks:
            raise InputError(_no_masks(self.root))

    def ids(self, split: str) -> list[str]:
        """Sorted ids of "train" or "val". Raises InputError if the list, or an image on it, is missing."""
        if split not in _SPLITS:
            raise InputError(f"pascal_context has no split '{split}': {suggest(split, _SPLITS)}")
        source = self.root / _MASKS_BY_SPLIT / split
        if split not in self._ids:
            source = self.root / _LISTS / f"{split}.txt"
            if not file_is_there(source):
                raise InputError(f"{source}: no such file; expected the list of the {split} ids, one per line")
            self._ids[split] = sorted({line.split()[0] for line in list_text(source).splitlines() if line.strip()})
        if not self._ids[split]:
            raise InputError(f"{source}: empty; expected the {split} part of PASCAL-Context")
        require_images(self._ids[split], self._images, source, self.root / "JPEGImages")
        return list(self._ids[split])

    def load_mask(self, image_id: str) -> np.ndarray:
        """(H, W) uint8: class index, or 255 where the file has it and, with 59 classes, for background."""
        path = self._path(self._masks, image_id, "mask")
        mask = read_index_mask(path)
        expected = "expected 0..59, or 255 for ignored; masks of 459 classes must be converted first"
        reject_labels(path, (mask >= len(CLASSES)) & (mask != IGNORE), mask, expected)
        return mask if len(self.classes) == len(CLASSES) else cv2.LUT(mask, _WITHOUT_BACKGROUND)


def class_table(order: Order) -> tuple[tuple[str, tuple[int, int, int]], ...]:
    """Names and colors of the 60 values in this order; the color of a class does not depend on the order."""
    if order == "alphabetical":
        return CLASSES
    colors = dict(CLASSES)
    first = [CLASSES[0][0], *VOC_CLASSES]
    return tuple((name, colors[name]) for name in [*first, *(n for n in colors if n not in first)])


def _no_masks(root: Path) -> str:
    """The error message for a root without masks; special if it contains the original release."""
    expected = f"expected <id>.png in {_MASKS}/ or in {_MASKS_BY_SPLIT}/train/"
    for folder in (root, root / "trainval", root / _MASKS):
        found = next(folder.glob("*.mat"), None)
        if found:
            return (
                f"{found}: masks of the original release (459 classes) are not supported; convert them to PNG files "
                f"of 60 values in {_MASKS}/, with lists in {_LISTS}/"
            )
    if file_is_there(root / "trainval_merged.json"):
        return (
            f"{root}: annotations only in trainval_merged.json; convert them to PNG files of 60 values in "
            f"{_MASKS}/, with lists in {_LISTS}/, as the converter of mmsegmentation does"
        )
    return f"{root}: no masks; {expected}"
