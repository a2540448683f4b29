"""The only reader of mask files: class indices, and errors about invalid ones. EXIF orientation is applied."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from semiseg.data.readers.images import opened
from semiseg.errors import InputError


def open_mask(path: Path) -> Image.Image:
    """The decoded file in its own mode, with its EXIF orientation applied.

    Raises:
        InputError: naming the file, if it is unreadable, or a JPEG file, whose values are not those that were saved.
    """
    with opened(path) as image:
        if image.format in ("JPEG", "MPO"):
            raise InputError(
                f"{path}: a JPEG file; JPEG changes the values of a mask, so other classes appear: export masks as PNG"
            )
        upright = ImageOps.exif_transpose(image)
        return upright.copy() if upright is image else upright


def read_index_mask(path: Path) -> np.ndarray:
    """Read a single-channel mask; for a palette image the indices, not the colors.

    Returns:
        (H, W) uint8, the values in the file.

    Raises:
        InputError: naming the file, if it is missing, unreadable, has color channels or a value outside 0..255.
    """
    return to_index(open_mask(path), path)


def to_index(image: Image.Image, path: Path) -> np.ndarray:
    """(H, W) uint8 from a single-channel Pillow image; ``path`` is for the error message."""
    values = np.array(image)
    if values.ndim != 2 or image.mode == "F":
        mode = "floating-point" if image.mode == "F" else image.mode
        raise InputError(f"{path}: {mode} image; expected a single-channel mask of class indices (gray or palette)")
    if values.dtype == np.uint8:
        return values
    reject_labels(path, (values < 0) | (values > 255), values, "expected 0..255")
    return values.astype(np.uint8)


def reject_labels(path: Path, bad: np.ndarray, values: np.ndarray, expected: str) -> None:
    """Raise InputError naming the file, the first bad pixel and its value, if any pixel is bad.

    Args:
        path: the mask file.
        bad: (H, W) bool.
        values: (H, W) indices or (H, W, 3) colors as in the file.
        expected: what is allowed; ends the message.
    """
    if not bad.any():
        return
    row, column = (int(v) for v in np.argwhere(bad)[0])
    value = values[row, column]
    what = f"color {tuple(int(v) for v in value)}" if values.ndim == 3 else f"label {int(value)}"
    others = f" ({int(bad.sum())} such pixels)" if bad.sum() > 1 else ""
    raise InputError(f"{path}: {what} at row {row}, column {column}{others} is not allowed: {expected}")
