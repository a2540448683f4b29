"""What each reader costs with its training views on one core, against bare decoding of the same files.

Files have the size and layout of the official archives; what is on them is drawn.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import scipy.io
from PIL import Image
from table import Row
from timing import best_of

from semiseg.data.batch import ViewSpec
from semiseg.data.datasets.ade20k import ADE20K
from semiseg.data.datasets.base import SegmentationDataset
from semiseg.data.datasets.camvid import CamVid
from semiseg.data.datasets.cityscapes import Cityscapes
from semiseg.data.datasets.coco import COCO
from semiseg.data.datasets.pascal_context import PascalContext
from semiseg.data.datasets.voc import VOC
from semiseg.data.loading.sampling import Draw, Stream, sample_rng
from semiseg.data.views.transforms import TrainViews

GOAL = 2.0  # at least half as many images a second as bare decoding


@dataclass(frozen=True)
class Case:
    """A reader, the size (H, W) of its images, its usual crop, and where the files of an id lie."""

    name: str
    reader: Callable[[Path], SegmentationDataset]
    size: tuple[int, int]
    crop: int
    image: str
    mask: str
    ids: tuple[str, str] = ("2007_000032", "2007_000039")
    values: int = 21  # masks hold 0..values - 1


CITY = "aachen/{id}"
CASES = (
    Case("camvid", CamVid, (360, 480), 360, "train/{id}.png", "trainannot/{id}.png", values=12),
    Case("voc", VOC, (375, 500), 321, "JPEGImages/{id}.jpg", "SegmentationClass/{id}.png"),
    Case("voc, masks of SBD", VOC, (375, 500), 321, "JPEGImages/{id}.jpg", "dataset/cls/{id}.mat"),
    Case(
        "cityscapes", Cityscapes, (1024, 2048), 801,
        f"leftImg8bit/train/{CITY}_leftImg8bit.png", f"gtFine/train/{CITY}_gtFine_labelIds.png",
        ids=("aachen_000000_000019", "aachen_000001_000019"), values=34,
    ),
    Case(
        "coco, ready masks", COCO, (480, 640), 513, "train2017/{id}.jpg", "masks/{id}.png",
        ids=("000000000009", "000000000025"), values=81,
    ),
    Case(
        "coco, painted", COCO, (480, 640), 513, "train2017/{id}.jpg", "bare/{id}.png",
        ids=("000000000009", "000000000025"),
    ),
    Case(
        "ade20k", ADE20K, (512, 683), 513, "images/training/{id}.jpg", "annotations/training/{id}.png",
        ids=("ADE_train_00000001", "ADE_train_00000002"), values=151,
    ),
    Case(
        "pascal_context", PascalContext, (375, 500), 321, "JPEGImages/{id}.jpg", "SegmentationClassContext/{id}.png",
        values=60,
    ),
)  # fmt: skip


def measure(*, quick: bool) -> list[Row]:
    """For each reader: a labeled sample and an unlabeled one with two strong views, of every file."""
    return [row for case in (CASES[:2] if quick else CASES) for row in _measure(case, rounds=1 if quick else 9)]


def _measure(case: Case, rounds: int) -> Iterator[Row]:
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        write_files(case, root)
        dataset = case.reader(root)
        views = TrainViews(case.crop)
        loaders = {"reader": (dataset.load_image, dataset.load_mask), "bare": _bare(case, root)}

        def samples(image: Callable[[str], np.ndarray], mask: Callable[[str], np.ndarray]) -> None:
            for index, image_id in enumerate(case.ids):
                rng = sample_rng(0, Draw(Stream.LABELED, index, 0))
                views.labeled(image(image_id), mask(image_id), rng)
                rng = sample_rng(0, Draw(Stream.UNLABELED, index, 0))
                views.unlabeled(image(image_id), rng, spec=ViewSpec(strong=2), n_classes=len(dataset.classes))

        seconds = best_of({name: lambda pair=pair: samples(*pair) for name, pair in loaders.items()}, rounds)
    rate = {name: 2 * len(case.ids) / s for name, s in seconds.items()}
    height, width = case.size
    yield Row(
        f"read {case.name} + views, crop {case.crop}",
        seconds["reader"] / seconds["bare"],
        f"decoding the same {width}x{height} files + views ({rate['bare']:.0f} images/s)",
        goal=GOAL,
        detail=f"{rate['reader']:.0f} images/s",
    )


def _bare(case: Case, root: Path) -> tuple[Callable[[str], np.ndarray], Callable[[str], np.ndarray]]:
    """Decoding without any check."""

    def image(image_id: str) -> np.ndarray:
        return cv2.cvtColor(cv2.imread(str(root / case.image.format(id=image_id))), cv2.COLOR_BGR2RGB)

    def mask(image_id: str) -> np.ndarray:
        path = root / case.mask.format(id=image_id)
        if path.suffix == ".mat":
            return scipy.io.loadmat(path)["GTcls"]["Segmentation"][0, 0]
        return np.array(Image.open(path))

    return image, mask


def write_files(case: Case, root: Path) -> None:
    """Images and masks as in the official archive."""
    for seed, image_id in enumerate(case.ids):
        image, mask = _photograph(seed, *case.size), _regions(seed, *case.size, case.values)
        path = root / case.image.format(id=image_id)
        path.parent.mkdir(parents=True, exist_ok=True)
        quality = [cv2.IMWRITE_JPEG_QUALITY, 90] if path.suffix == ".jpg" else []
        cv2.imwrite(str(path), image, quality)
        path = root / case.mask.format(id=image_id)
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".mat":
            scipy.io.savemat(path, {"GTcls": {"Segmentation": mask}}, do_compression=True)
        else:
            Image.fromarray(mask).save(path)
    if case.name == "coco, painted":
        _write_objects(case, root / "annotations" / "instances_train2017.json")


def _write_objects(case: Case, path: Path) -> None:
    """Seven objects with outlines of 40 corners on each image, about as many as COCO has."""
    rng = np.random.default_rng(0)
    height, width = case.size
    objects = []
    for image_id in case.ids:
        for category in range(1, 8):
            angles, radius = np.linspace(0, 2 * np.pi, 40, endpoint=False), rng.uniform(20, 120)
            circle = radius * np.stack([np.cos(angles), np.sin(angles)], 1) + rng.uniform(0, (width, height))
            outline = circle.clip(0, (width, height)).round(2).ravel().tolist()
            objects.append({"image_id": int(image_id), "category_id": category, "segmentation": [outline]})
            objects[-1] |= {"id": len(objects), "area": np.pi * radius**2, "iscrowd": 0}
    ids = [i for i in range(1, 91) if i not in (12, 26, 29, 30, 45, 66, 68, 69, 71, 83)]
    images = [{"id": int(i), "file_name": f"{i}.jpg", "height": height, "width": width} for i in case.ids]
    path.parent.mkdir(parents=True)
    categories = [{"id": i, "name": str(i)} for i in ids]
    path.write_text(json.dumps({"images": images, "annotations": objects, "categories": categories}))


def _photograph(seed: int, height: int, width: int) -> np.ndarray:
    """(H, W, 3) uint8 with structure at several scales, so that its file is about as large as a photograph's."""
    rng = np.random.default_rng(seed)
    image = np.full((height, width, 3), 120, np.float32)
    for cells, amplitude in ((4, 60), (16, 30), (64, 15), (200, 8)):
        noise = rng.normal(0, amplitude, (cells, cells, 3)).astype(np.float32)
        image += cv2.resize(noise, (width, height), interpolation=cv2.INTER_CUBIC)
    return np.clip(image, 0, 255).astype(np.uint8)


def _regions(seed: int, height: int, width: int, values: int) -> np.ndarray:
    """(H, W) uint8: blocks of 0..values - 1."""
    blocks = np.random.default_rng(seed).integers(0, values, (6, 8), dtype=np.uint8)
    blocks[-1, -1] = values - 1  # the highest one tells official masks of ADE20K
    return cv2.resize(blocks, (width, height), interpolation=cv2.INTER_NEAREST)
