"""VOC 2012 and Cityscapes as they are extracted, with a few small images each."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
import scipy.io
from PIL import Image

from support.dataset_files import random_image, save

SIZE = (24, 32)  # H, W


def voc_colors() -> list[int]:
    """The 256 colors of the palette in the PNG files, flat: the bits of the index, spread over R, G and B."""
    colors = []
    for index in range(256):
        color = [0, 0, 0]
        for bit in range(8):
            color[bit % 3] |= (index >> bit & 1) << (7 - bit // 3)
        colors += color
    return colors


def save_palette_mask(path: Path, mask: np.ndarray) -> Path:
    """Write a PNG of mode P, as in the archive."""
    image = Image.fromarray(mask)
    image.putpalette(voc_colors())
    assert image.mode == "P"
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path)
    return path


def save_sbd_mask(path: Path, mask: np.ndarray) -> Path:
    """Write a file of SBD: a struct `GTcls` with the mask, the boundaries and the classes present."""
    path.parent.mkdir(parents=True, exist_ok=True)
    present = np.unique(mask[mask > 0]).astype(np.uint8).reshape(-1, 1)
    struct = {"Boundaries": np.zeros((20, 1), object), "Segmentation": mask, "CategoriesPresent": present}
    scipy.io.savemat(path, {"GTcls": struct}, do_compression=True)
    return path


def object_mask(label: int, *, border: bool = True) -> np.ndarray:
    """A box of one class on background, with a border of 255 two pixels wide."""
    mask = np.zeros(SIZE, np.uint8)
    mask[4:20, 6:26] = 255 if border else label
    mask[6:18, 8:24] = label
    return mask


def make_voc(
    root: Path,
    *,
    train: Iterable[str] = ("2007_000032", "2007_000039"),
    val: Iterable[str] = ("2007_000033", "2007_000042"),
    aug: Iterable[str] = (),
    sbd: Iterable[str] = (),
    unlabeled: Iterable[str] = (),
    lists: bool = True,
    prepared: bool = False,
) -> Path:
    """`root/VOCdevkit/VOC2012`; masks of train are of class 1, of val 2, of `SegmentationClassAug` 3, of SBD 4.

    Args:
        aug: images with a mask in `SegmentationClassAug`; one of train or val may be among them.
        sbd: the same, with a `.mat` file in `root/benchmark_RELEASE/dataset/cls`.
        unlabeled: images without any mask.
        lists: write `ImageSets/Segmentation`.
        prepared: all masks but those of SBD are single-channel files in `SegmentationClass`.

    Returns:
        The folder `VOC2012`.
    """
    train, val, aug, sbd = list(train), list(val), list(aug), list(sbd)
    folder, rng = root / "VOCdevkit" / "VOC2012", np.random.default_rng(0)
    for image_id in sorted({*train, *val, *aug, *sbd, *unlabeled}):
        save(folder / "JPEGImages" / f"{image_id}.jpg", random_image(rng, *SIZE))
    for ids, label in ((train, 1), (val, 2)):
        for image_id in ids:
            path = folder / "SegmentationClass" / f"{image_id}.png"
            (save if prepared else save_palette_mask)(path, object_mask(label))
    for image_id in aug:
        place = "SegmentationClass" if prepared else "SegmentationClassAug"
        save(folder / place / f"{image_id}.png", object_mask(3, border=False))
    for image_id in sbd:
        path = root / "benchmark_RELEASE" / "dataset" / "cls" / f"{image_id}.mat"
        save_sbd_mask(path, object_mask(4, border=False))
    if lists:
        write_ids(folder / "ImageSets" / "Segmentation" / "train.txt", train)
        write_ids(folder / "ImageSets" / "Segmentation" / "val.txt", val)
        write_ids(folder / "ImageSets" / "Segmentation" / "trainval.txt", [*train, *val])
    return folder


def write_ids(path: Path, ids: Iterable[str]) -> Path:
    """One id a line."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{i}\n" for i in ids))
    return path


CITYSCAPES_IDS = {
    "train": ("aachen_000000_000019", "aachen_000001_000019", "bochum_000000_000313", "bochum_000000_000600"),
    "val": ("munster_000000_000019", "munster_000001_000019"),
    "test": ("berlin_000000_000019",),
}


def make_cityscapes(
    root: Path,
    ids_by_split: Mapping[str, Iterable[str]] = CITYSCAPES_IDS,
    *,
    train_ids: Iterable[str] = (),
    height: int = 32,
    width: int = 64,
) -> Path:
    """`leftImg8bit` and `gtFine`, masks of road (7) below building (11), of test placeholders.

    Args:
        ids_by_split: "train", "val", "test", and "train_extra" if wanted, which gets no masks.
        train_ids: the images that have a `labelTrainIds` file besides `labelIds`.
    """
    rng = np.random.default_rng(0)
    label_ids = np.full((height, width), 11, np.uint8)
    label_ids[height // 2 :] = 7
    for split, ids in ids_by_split.items():
        for image_id in ids:
            city = image_id.split("_")[0]
            save(root / "leftImg8bit" / split / city / f"{image_id}_leftImg8bit.png", random_image(rng, height, width))
            if split == "train_extra":
                continue
            start = root / "gtFine" / split / city / f"{image_id}_gtFine"
            save(Path(f"{start}_labelIds.png"), label_ids if split != "test" else np.zeros_like(label_ids))
            save(Path(f"{start}_color.png"), random_image(rng, height, width))
            save(Path(f"{start}_instanceIds.png"), np.full((height, width), 26001, np.uint16))
            Path(f"{start}_polygons.json").write_text("{}")
            if image_id in set(train_ids):
                save(Path(f"{start}_labelTrainIds.png"), np.where(label_ids == 7, 0, 2).astype(np.uint8))
    return root
