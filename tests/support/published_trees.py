"""Data sets of the published size in their official layouts, made of hard links to one small image and mask."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from PIL import Image

SIDE = 48  # pixels


class Tree:
    """Places copies of one image and one mask (labels 7 and 8, known to every data set) without writing them again."""

    def __init__(self, root: Path):
        self.root = root
        image = np.random.default_rng(0).integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
        mask = np.full((SIDE, SIDE), 7, np.uint8)
        mask[: SIDE // 2] = 8
        self.copies = root / ".copies"
        self.copies.mkdir(parents=True)
        for suffix in (".jpg", ".png"):
            Image.fromarray(image).save(self.copies / f"image{suffix}")
        Image.fromarray(mask).save(self.copies / "mask.png")

    def images(self, names: Iterable[str]) -> None:
        """Paths below the root, with suffix."""
        for name in names:
            self._link(f"image{Path(name).suffix}", self.root / name)

    def masks(self, names: Iterable[str]) -> None:
        """Paths below the root, `.png`."""
        for name in names:
            self._link("mask.png", self.root / name)

    def text(self, name: str, ids: Iterable[str]) -> None:
        """A list file."""
        (self.root / name).parent.mkdir(parents=True, exist_ok=True)
        (self.root / name).write_text("".join(f"{i}\n" for i in ids))

    def _link(self, source: str, target: Path) -> None:
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.link(self.copies / source, target)
        except OSError as error:
            if error.errno != errno.EMLINK:
                raise
            shutil.copy(self.copies / source, target)  # a file has at most 65,000 names: go on with a fresh copy
            target.replace(self.copies / source)
            os.link(self.copies / source, target)


def write_voc(root: Path, train: list[str], clean: list[str]) -> None:
    """VOC 2012 with `SegmentationClassAug`; ``clean``: the ids of the official train list."""
    tree, val = Tree(root), ["2007_000033", "2007_000042"]
    tree.images(f"JPEGImages/{i}.jpg" for i in (*train, *val))
    tree.masks(f"SegmentationClassAug/{i}.png" for i in train)
    tree.masks(f"SegmentationClass/{i}.png" for i in (*clean, *val))
    tree.text("ImageSets/Segmentation/train.txt", clean)
    tree.text("ImageSets/Segmentation/val.txt", val)


def write_cityscapes(root: Path, train: list[str]) -> None:
    """As the official archives are: `labelIds` only."""
    tree = Tree(root)
    for split, ids in (("train", train), ("val", ["munster_000000_000019", "munster_000001_000019"])):
        tree.images(f"leftImg8bit/{split}/{i.split('_')[0]}/{i}_leftImg8bit.png" for i in ids)
        tree.masks(f"gtFine/{split}/{i.split('_')[0]}/{i}_gtFine_labelIds.png" for i in ids)


def write_coco(root: Path, train: list[str], labeled: list[str]) -> None:
    """Ready masks, of the labeled images only."""
    tree, val = Tree(root), ["000000000139", "000000000285"]
    tree.images(f"train2017/{i}.jpg" for i in train)
    tree.images(f"val2017/{i}.jpg" for i in val)
    tree.masks(f"masks/{i}.png" for i in (*labeled, *val))


def write_ade20k(root: Path, train: list[str]) -> None:
    """As in ADEChallengeData2016."""
    tree = Tree(root)
    for split, ids in (("training", train), ("validation", ["ADE_val_00000001", "ADE_val_00000002"])):
        tree.images(f"images/{split}/{i}.jpg" for i in ids)
        tree.masks(f"annotations/{split}/{i}.png" for i in ids)


def write_pascal_context(root: Path, train: list[str]) -> None:
    """VOC 2010 with the masks of the usual converter."""
    tree, val = Tree(root), ["2008_000002", "2008_000003"]
    tree.images(f"JPEGImages/{i}.jpg" for i in (*train, *val))
    tree.masks(f"SegmentationClassContext/{i}.png" for i in (*train, *val))
    tree.text("ImageSets/SegmentationContext/train.txt", train)
    tree.text("ImageSets/SegmentationContext/val.txt", val)
