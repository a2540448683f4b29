"""Reading images and masks from disk, and listing folders, with errors that name the file."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from semiseg.errors import InputError

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp", ".ppm", ".pgm", ".pbm", ".gif"})


def several(items: Iterable[object], limit: int = 5) -> str:
    """Join items with commas; beyond ``limit`` say how many more there are."""
    texts = [str(item) for item in items]
    more = f" and {len(texts) - limit} more" if len(texts) > limit else ""
    return ", ".join(texts[:limit]) + more


def strip_suffix(name: str) -> str:
    """Drop an image suffix; other dots belong to the name (``frame.0012`` stays)."""
    stem, suffix = os.path.splitext(name)
    return stem if suffix.lower() in IMAGE_SUFFIXES else name


def require_root(root: str | Path | None, what: str) -> Path:
    """Check that ``root`` is a folder.

    Raises:
        InputError: if it is not set or not there; says which key to set and what is expected there.
    """
    if root is None or not str(root):
        raise InputError(f"data.root is not set: set data.root=FOLDER, the folder of {what}")
    path = Path(root).expanduser()
    if not path.is_dir():
        raise InputError(f"data.root={root}: no such folder; set data.root=FOLDER, the folder of {what}")
    return path


def list_images(folder: Path, *, recursive: bool = False) -> dict[str, Path]:
    """Find the images in ``folder``. Opens none; hidden files and other suffixes are passed over.

    Returns:
        Path by id, sorted by id: the path below ``folder`` without suffix, with ``/`` between folders.

    Raises:
        InputError: if two files have the same id (``a.jpg`` and ``a.png``).
    """
    found: dict[str, Path] = {}
    clashes: list[str] = []
    for parent, folders, names in os.walk(folder, followlinks=True):
        folders[:] = sorted(f for f in folders if recursive and not f.startswith("."))
        prefix = Path(parent).relative_to(folder)
        for name in sorted(names):
            stem, suffix = os.path.splitext(name)
            if suffix.lower() not in IMAGE_SUFFIXES or name.startswith("."):
                continue
            image_id = (prefix / stem).as_posix()
            if image_id in found:
                clashes.append(f"{found[image_id].name} and {name} in {parent}")
            found[image_id] = Path(parent, name)
    if clashes:
        raise InputError(f"duplicate id: {several(clashes, 20)}; keep one file of each name")
    return dict(sorted(found.items()))


def require_masks(ids: Iterable[str], masks: Collection[str], source: Path, folder: Path) -> None:
    """Check that every image that ``source`` names has a mask.

    Raises:
        InputError: with the number of missing masks and the first of them.
    """
    missing = [i for i in ids if i not in masks]
    if missing:
        raise InputError(
            f"{folder}: {len(missing)} masks of the images in {source} are missing ({several(missing, 3)}); "
            "extract the whole archive"
        )


def read_image(path: Path) -> np.ndarray:
    """Read an image as people see it: EXIF orientation applied, made RGB, transparency dropped.

    Of 16-bit samples the high byte is kept.

    Returns:
        (H, W, 3) uint8, RGB.

    Raises:
        InputError: naming the file, if it is missing, not an image, truncated or of floating point.
    """
    with opened(path) as image:
        image = ImageOps.exif_transpose(image)
        if image.mode.startswith("I"):
            high = np.clip(np.asarray(image).astype(np.int64) >> 8, 0, 255).astype(np.uint8)
            return np.repeat(high[..., None], 3, axis=2)
        if image.mode == "F":
            raise InputError(f"{path}: floating-point image; convert it to 8 or 16 bits")
        return np.array(image.convert("RGB"))


def read_index_mask(path: Path) -> np.ndarray:
    """Read a single-channel mask; of a palette image the indices, not the colors.

    Returns:
        (H, W) uint8, the values of the file.

    Raises:
        InputError: naming the file, if it is missing, unreadable, has color channels or a value above 255.
    """
    with opened(path) as image:
        return to_index(ImageOps.exif_transpose(image), path)


def to_index(image: Image.Image, path: Path) -> np.ndarray:
    """(H, W) uint8 of a single-channel Pillow image; ``path`` is for the error."""
    values = np.array(image)
    if values.ndim != 2 or image.mode == "F":
        raise InputError(
            f"{path}: {image.mode} image; expected a single-channel mask of class indices (grey or palette)"
        )
    if values.dtype == np.uint8:
        return values
    if values.max(initial=0) > 255 or values.min(initial=0) < 0:
        raise InputError(f"{path}: label {values.max()} is outside 0..255")
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


@contextmanager
def opened(path: Path) -> Iterator[Image.Image]:
    """Open and decode fully, so that a truncated file fails here."""
    try:
        with Image.open(path) as image:
            image.load()
            yield image
    except InputError:
        raise
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except Exception as error:  # Pillow's decoders raise OSError, SyntaxError, ValueError, struct.error, ...
        raise InputError(f"{path}: cannot be read as an image ({error})") from error
