"""COCO, ADE20K and PASCAL-Context as they are extracted, with a few small images each."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from support.dataset_files import random_image, save

GAPS = (12, 26, 29, 30, 45, 66, 68, 69, 71, 83)  # category ids that COCO does not use
CATEGORY_IDS = [i for i in range(1, 91) if i not in GAPS]
PERSON, CAR, STOP_SIGN, TOOTHBRUSH = 1, 3, 13, 90  # category ids


def box(category: int, left: int, top: int, right: int, bottom: int, *, crowd: bool = False) -> dict[str, Any]:
    """An object with a rectangle as outline: pixels left..right - 1, top..bottom - 1."""
    corners = [left, top, right, top, right, bottom, left, bottom]
    return {
        "category_id": category,
        "area": (right - left) * (bottom - top),
        "iscrowd": int(crowd),
        "segmentation": [corners],
    }


def some_objects(index: int, height: int, width: int) -> list[dict[str, Any]]:
    return [box(PERSON, 0, 0, width // 2, height), box(CAR, index % 4, 4, width // 2 + 4, height - 4)]


def make_coco(
    root: Path,
    *,
    train: Iterable[str] = ("000000000009", "000000000025", "000000000030", "000000000034"),
    val: Iterable[str] = ("000000000139", "000000000285"),
    unlabeled: Iterable[str] = (),
    objects: Mapping[str, list[dict[str, Any]]] | None = None,
    annotations: bool = True,
    masks: bool = False,
    height: int = 40,
    width: int = 48,
) -> Path:
    """COCO 2017.

    Args:
        objects: of images that get others than two rectangles.
        annotations: write `instances_{train,val}2017.json`.
        masks: write ready masks: background above, class 2 below.
    """
    rng = np.random.default_rng(0)
    for split, ids in (("train", list(train)), ("val", list(val)), ("unlabeled", list(unlabeled))):
        for image_id in ids:
            save(root / f"{split}2017" / f"{image_id}.jpg", random_image(rng, height, width))
        if annotations and split != "unlabeled":
            found = {i: (objects or {}).get(i, some_objects(k, height, width)) for k, i in enumerate(ids)}
            write_instances(root / "annotations" / f"instances_{split}2017.json", found, height, width)
        if masks and split != "unlabeled":
            mask = np.zeros((height, width), np.uint8)
            mask[height // 2 :] = 2
            for image_id in ids:
                save(root / "masks" / f"{image_id}.png", mask)
    return root


def write_instances(path: Path, objects: Mapping[str, list[dict[str, Any]]], height: int, width: int) -> None:
    """The json of one split, with the keys of the official file that matter, categories out of order."""
    path.parent.mkdir(parents=True, exist_ok=True)
    content = {
        "info": {"year": 2017},
        "licenses": [],
        "images": [{"id": int(i), "file_name": f"{i}.jpg", "height": height, "width": width} for i in objects],
        "annotations": [{"image_id": int(i), **found} for i, several in objects.items() for found in several],
        "categories": [{"id": i, "name": f"category {i}", "supercategory": ""} for i in reversed(CATEGORY_IDS)],
    }
    for number, annotation in enumerate(content["annotations"], 1):
        annotation["id"] = number
    path.write_text(json.dumps(content))


def make_ade20k(root: Path, *, train: int = 4, val: int = 2, mapped: bool = False) -> Path:
    """ADEChallengeData2016: every mask holds other, wall (first class) and flag (last class)."""
    rng = np.random.default_rng(0)
    values = np.repeat([255, 0, 149] if mapped else [0, 1, 150], 16).astype(np.uint8)
    for split, folder, count in (("train", "training", train), ("val", "validation", val)):
        for number in range(1, count + 1):
            image_id = f"ADE_{split}_{number:08d}"
            save(root / "images" / folder / f"{image_id}.jpg", random_image(rng, 40, 48))
            save(root / "annotations" / folder / f"{image_id}.png", np.tile(values, (40, 1)))
    return root


def make_pascal_context(
    root: Path,
    *,
    train: Iterable[str] = ("2008_000003", "2008_000009", "2008_000015", "2008_000019"),
    val: Iterable[str] = ("2008_000002", "2008_000007"),
    by_split: bool = False,
    values: Iterable[int] = (0, 1, 2, 59),
) -> Path:
    """VOC2010 with masks of ``values`` in columns; ``by_split``: in the layout of SemiOVS, without lists."""
    rng = np.random.default_rng(0)
    mask = np.tile(np.repeat(np.array(list(values), np.uint8), 12), (40, 1))
    for split, ids in (("train", list(train)), ("val", list(val))):
        folder = root / (f"SegmentationClassContext60/{split}" if by_split else "SegmentationClassContext")
        for image_id in ids:
            save(root / "JPEGImages" / f"{image_id}.jpg", random_image(rng, *mask.shape))
            save(folder / f"{image_id}.png", mask)
        if not by_split:
            lists = root / "ImageSets" / "SegmentationContext"
            lists.mkdir(parents=True, exist_ok=True)
            (lists / f"{split}.txt").write_text("".join(f"{i}\n" for i in ids))
    return root
