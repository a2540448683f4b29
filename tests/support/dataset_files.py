"""Small data sets for the tests of this folder: in memory, and on disk."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from PIL import Image

from semiseg.data.datasets.base import SegmentationDataset


class ListedDataset(SegmentationDataset):
    """Ids, masks and groups given as plain values; records which masks were opened."""

    name = "listed"
    classes = ("a", "b", "c")
    palette = ((0, 0, 0), (9, 9, 9), (99, 99, 99))

    def __init__(self, train: Iterable[str], val: Iterable[str] = (), without_mask: Iterable[str] = ()):
        self.splits = {"train": sorted(train), "val": sorted(val)}
        self.without_mask = set(without_mask)
        self.masks: dict[str, np.ndarray] = {}
        self.opened_masks: set[str] = set()

    def ids(self, split: str) -> list[str]:
        return list(self.splits[split])

    def load_image(self, image_id: str) -> np.ndarray:
        return np.zeros((4, 6, 3), np.uint8)

    def load_mask(self, image_id: str) -> np.ndarray:
        self.opened_masks.add(image_id)
        return self.masks.get(image_id, np.zeros((4, 6), np.uint8)).copy()

    def has_mask(self, image_id: str) -> bool:
        return image_id not in self.without_mask

    def group(self, image_id: str) -> str:
        return image_id.partition("_")[0]


def save(path: Path, array: np.ndarray, **options: object) -> Path:
    """Write an array as an image, making its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path, **options)
    return path


def random_image(rng: np.random.Generator, height: int = 12, width: int = 16) -> np.ndarray:
    return rng.integers(0, 256, (height, width, 3), dtype=np.uint8)


def write_camvid(root: Path, train: int = 6, val: int = 2, suffix: str = ".png") -> Path:
    """A miniature CamVid of two drives, labels 0..11."""
    rng = np.random.default_rng(0)
    for split, count in (("train", train), ("val", val), ("test", 1)):
        for index in range(count):
            stem = f"drive{index % 2}_{split}{index:03d}"
            save(root / split / f"{stem}{suffix}", random_image(rng))
            save(root / f"{split}annot" / f"{stem}.png", rng.integers(0, 12, (12, 16), dtype=np.uint8))
    return root


def truncate(path: Path) -> Path:
    """Cut a file in half."""
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    return path
