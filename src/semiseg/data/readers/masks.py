"""The one reader for mask files: class indices, and what is wrong with them. EXIF orientation is applied."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from semiseg.data.readers.images import opened
from semiseg.errors import InputError


def open_mask(path: Path) -> Image.Image:
    """The decoded file, turned as it is displayed, in its own mode. Raises InputError naming the file."""
    with opened(path) as image:
        turned = ImageOps.exif_transpose(image)
        return turned.copy() if turned is image else turned


def read_index_mask(path: Path) -> np.ndarray:
    """Read a single-channel mask; of a palette image the indices, not the colors.

    Returns:
        (H, W) uint8, the values of the file.

    Raises:
        InputError: naming the file, if it is missing, unreadable, has color channels or a value outside 0..255.
    """
    return to_index(open_mask(path), path)


def to_index(image: Image.Image, path: Path) -> np.ndarray:
    """(H, W) uint8 of a single-channel Pillow image; ``path`` is for the error."""
    values = np.array(image)
    if values.ndim != 2 or image.mode == "F":
        raise InputError(
            f"{path}: {image.mode} image; expected a single-channel mask of class indices (grey or palette)"
        )
    if values.dtype == np.uint8:
        return values
    reject_labels(path, (values < 0) | (values > 255), values, "expected 0..255")
    return values.astype(np.uint8)


def reject_labels(path: Path, bad: np.ndarray, values: np.ndarray, expected: str) -> None:
    """Raise InputError naming file, first bad pixel and its value, if any pixel is bad.

    Args:
        path: the mask file.
        bad: (H, W) bool.
        values: (H, W) indices or (H, W, 3) colors as they are in the file.
        expected: what is allowed, the end of the message.
    """
    if not bad.any():
        return
    row, column = (int(v) for v in np.argwhere(bad)[0])
    value = values[row, column]
    what = f"color {tuple(int(v) for v in value)}" if values.ndim == 3 else f"label {int(value)}"
    others = f" ({int(bad.sum())} such pixels)" if bad.sum() > 1 else ""
    raise InputError(f"{path}: {what} at row {row}, column {column}{others} is not allowed: {expected}")
