"""Cityscapes: frames of 2048x1024 pixels from drives through 50 cities, 19 classes."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from semiseg.arguments import checked
from semiseg.data.batch import IGNORE
from semiseg.data.datasets.base import Balance, ListedDataset
from semiseg.data.datasets.layout import find_root, require_images, require_masks
from semiseg.data.readers.listing import list_images
from semiseg.data.readers.masks import read_index_mask, reject_labels
from semiseg.errors import InputError, suggest

_SPLITS = ("train", "val", "test", "train_extra")
_LABELED = ("train", "val")  # gtFine/test holds placeholders, train_extra has coarse polygons only
_IMAGE = "_leftImg8bit"
_TRAIN_IDS, _LABEL_IDS = "_gtFine_labelTrainIds", "_gtFine_labelIds"
_LAST_LABEL_ID = 33
_SCORED = (7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33)  # label ids by class index


def _table() -> np.ndarray:
    table = np.full(256, IGNORE, np.uint8)
    table[list(_SCORED)] = range(len(_SCORED))
    return table


TRAIN_IDS = _table()
"""(256,) uint8: class index of each label id; 255 for ids that are not scored, including -1 (255 in a file)."""


@checked
class Cityscapes(ListedDataset):
    """Frames `leftImg8bit/<split>/<city>/<id>_leftImg8bit.png` with masks in `gtFine/<split>/<city>/`.

    A mask is `<id>_gtFine_labelTrainIds.png` if that file exists, otherwise `<id>_gtFine_labelIds.png` of the official
    archive, which is mapped when it is read.

    Splits: "train"; "val"; "test", without masks, as those in the archive are placeholders; "train_extra", without
    masks: `leftImg8bit/train_extra`, or a folder `leftImg8bit_trainextra` next to `leftImg8bit`. The group of a
    frame is its city.

    Args:
        root: the folder that contains `leftImg8bit` and `gtFine`, or the parent of such a folder named `cityscapes`.
        balance: "classes": labeled crops show rare classes more often, see `ClassBalance`.

    Source: Cordts et al. 2016; label table of github.com/mcordts/cityscapesScripts.
    """

    name = "cityscapes"
    classes = (
        "road",
        "sidewalk",
        "building",
        "wall",
        "fence",
        "pole",
        "traffic light",
        "traffic sign",
        "vegetation",
        "terrain",
        "sky",
        "person",
        "rider",
        "car",
        "truck",
        "bus",
        "train",
        "motorcycle",
        "bicycle",
    )
    palette = (
        (128, 64, 128),
        (244, 35, 232),
        (70, 70, 70),
        (102, 102, 156),
        (190, 153, 153),
        (153, 153, 153),
        (250, 170, 30),
        (220, 220, 0),
        (107, 142, 35),
        (152, 251, 152),
        (70, 130, 180),
        (220, 20, 60),
        (255, 0, 0),
        (0, 0, 142),
        (0, 0, 70),
        (0, 60, 100),
        (0, 80, 100),
        (0, 0, 230),
        (119, 11, 32),
    )

    def __init__(self, root: str | Path | None, balance: Balance | None = None):
        self.balance = balance
        what = "Cityscapes, with leftImg8bit and gtFine in it"
        self.root = find_root(root, "leftImg8bit", ["cityscapes", "Cityscapes"], what)
        if not (self.root / "gtFine").is_dir():
            raise InputError(f"{self.root}: no folder gtFine beside leftImg8bit; extract gtFine_trainvaltest.zip there")
        self._ids: dict[str, list[str]] = {}
        self._images = {}
        for split in _SPLITS:
            images = _by_stem(list_images(self._folder(split), recursive=True), _IMAGE)
            repeated = sorted(images.keys() & self._images.keys())
            if repeated:
                raise InputError(f"{images[repeated[0]]}: duplicate id, also {self._images[repeated[0]]}")
            self._ids[split] = sorted(images)
            self._images.update(images)
        self._masks = {}
        for split in _LABELED:
            found = list_images(self.root / "gtFine" / split, recursive=True)
            self._masks.update(_by_stem(found, _LABEL_IDS) | _by_stem(found, _TRAIN_IDS))
        if not self._images:
            raise InputError(f"{self.root / 'leftImg8bit'}: no <split>/<city>/<id>{_IMAGE}.png; extract the archive")

    def ids(self, split: str) -> list[str]:
        """Sorted ids, such as `aachen_000000_000019`. Raises InputError if frames or masks are missing."""
        if split not in _SPLITS:
            raise InputError(f"cityscapes has no split '{split}': {suggest(split, _SPLITS)}")
        folder = self._folder(split)
        if not self._ids[split]:
            raise InputError(f"{folder}: no frames; expected <city>/<id>{_IMAGE}.png of the {split} split")
        if split in _LABELED:
            labels = self.root / "gtFine" / split
            require_masks(self._ids[split], self._masks, folder, labels)
            listed = sorted(i for i, path in self._masks.items() if path.is_relative_to(labels))
            require_images(listed, self._images, labels, folder)
        return list(self._ids[split])

    def load_mask(self, image_id: str) -> np.ndarray:
        """(H, W) uint8: class index, or 255 for pixels that are not scored."""
        path = self._path(self._masks, image_id, "mask")
        mask = read_index_mask(path)
        if path.stem.endswith(_TRAIN_IDS):
            bad = (mask >= len(self.classes)) & (mask != IGNORE)
            reject_labels(path, bad, mask, "expected train ids 0..18, or 255 for ignored")
            return mask
        bad = (mask > _LAST_LABEL_ID) & (mask != IGNORE)
        reject_labels(path, bad, mask, "expected label ids 0..33, or 255 for -1")
        return cv2.LUT(mask, TRAIN_IDS)

    def group(self, image_id: str) -> str:
        """The city: `aachen` of `aachen_000000_000019`."""
        return image_id.partition("_")[0]

    def _folder(self, split: str) -> Path:
        folder = self.root / "leftImg8bit" / split
        beside = self.root / "leftImg8bit_trainextra"
        return beside if split == "train_extra" and not folder.is_dir() and beside.is_dir() else folder


def _by_stem(paths: dict[str, Path], kind: str) -> dict[str, Path]:
    """The files named `<id><kind>.png`, by id."""
    return {path.stem.removesuffix(kind): path for path in paths.values() if path.stem.endswith(kind)}
