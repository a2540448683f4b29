"""Read one image and its mask, and report problems with them."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from semiseg.data.batch import IGNORE
from semiseg.data.datasets.base import SegmentationDataset
from semiseg.data.readers.images import opened, orientation
from semiseg.data.readers.listing import IMAGE_SUFFIXES
from semiseg.errors import InputError

FLAT = 4  # an image with a smaller range of values, of 255, is considered empty
MIRRORED = (2, 3, 4)  # EXIF orientations that keep height and width


@dataclass
class FileCheck:
    """Result of reading one image.

    Attributes:
        pixels: (classes + 1,) pixel counts of each class in its mask, ignored pixels last; zero if it was not opened.
        problems: one line per error, naming the file.
        warnings: one line per oddity that may be intended.
        size: (height, width) of the image; zero if it could not be read.
    """

    pixels: np.ndarray
    problems: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    size: tuple[int, int] = (0, 0)


def check_files(dataset: SegmentationDataset, image_id: str, opens_mask: bool) -> FileCheck:
    """Read one image, and its mask if ``opens_mask``."""
    n_classes = len(dataset.classes)
    check = FileCheck(np.zeros(n_classes + 1, np.int64))
    image = None
    try:
        image = dataset.load_image(image_id)
    except InputError as error:
        check.problems.append(str(error))
    else:
        check.size = (image.shape[0], image.shape[1])
        low, high = np.percentile(image[::4, ::4], (1, 99))
        if high - low < FLAT:
            check.warnings.append(
                f"{dataset.locate(image_id)}: nearly constant, {low:.0f} to {high:.0f} of 255; is it empty, or is its "
                "value range wrong (data.range)?"
            )
    if not opens_mask:
        return check
    try:
        mask = dataset.load_mask(image_id)
    except InputError as error:
        check.problems.append(str(error))
        return check
    if image is not None and image.shape[:2] != mask.shape:
        check.problems.append(
            f"{dataset.locate(image_id)}: the image is {_size(image)} pixels (width x height), its mask {_size(mask)}"
        )
    elif turned := turned_against_mask(dataset, image_id):
        check.warnings.append(turned)
    counts = np.bincount(mask.ravel(), minlength=256)
    wrong = [value for value in np.flatnonzero(counts) if n_classes <= value != IGNORE]
    if wrong:
        check.problems.append(
            f"{dataset.locate(image_id)}: its mask has label {wrong[0]}; expected 0..{n_classes - 1} or {IGNORE}"
        )
    check.pixels[:n_classes], check.pixels[-1] = counts[:n_classes], counts[IGNORE]
    return check


def turned_against_mask(dataset: SegmentationDataset, image_id: str) -> str | None:
    """A warning if an image is rotated by its EXIF orientation, its mask is not, and their sizes agree either way."""
    image, mask = dataset.image_file(image_id), dataset.mask_file(image_id)
    if image is None or mask is None or mask.suffix.lower() not in IMAGE_SUFFIXES:
        return None
    turn = orientation(image)
    if turn == 1 or orientation(mask) != 1 or not (turn in MIRRORED or _is_square(image)):
        return None
    return (
        f"{image}: rotated for display (EXIF orientation {turn}), but its mask is not, and their sizes agree either "
        "way; look at the pictures of `semiseg data check sheet=FILE`"
    )


def _is_square(path: Path) -> bool:
    try:
        with opened(path, max_pixels=None, load=False) as image:
            return image.width == image.height
    except InputError:
        return False


def _size(array: np.ndarray) -> str:
    return f"{array.shape[1]} x {array.shape[0]}"
