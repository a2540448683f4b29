"""The odd files that people have: formats, masks and names that a reader must take as they are or refuse by name."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from PIL import Image

COLORS = ((0, 0, 0), (200, 30, 30), (30, 200, 30))
"""Colors of the three classes of `write_classes`."""


def pixels(height: int = 24, width: int = 32, seed: int = 0) -> np.ndarray:
    """(H, W, 3) uint8: smooth colors, so that JPEG keeps them, with a bright square in one corner."""
    rng = np.random.default_rng(seed)
    ramp = np.linspace(20, 180, width)[None, :, None] + np.linspace(0, 60, height)[:, None, None]
    image = ramp + rng.integers(0, 15, 3)
    image[: height // 3, : width // 3] = 250
    return image.clip(0, 255).astype(np.uint8)


def labels(height: int = 24, width: int = 32, classes: int = 3) -> np.ndarray:
    """(H, W) uint8: vertical bands of every class."""
    return np.repeat(np.arange(width)[None] * classes // width, height, axis=0).astype(np.uint8)


# -- images ---------------------------------------------------------------------------------------------------


def fifo(path: Path) -> Path:
    """A named pipe: whoever opens it for reading waits for ever."""
    path.parent.mkdir(parents=True, exist_ok=True)
    os.mkfifo(path)
    return path


def twelve_bit(path: Path, image: np.ndarray | None = None) -> Path:
    """Gray values of 12 bits, 0 to 4095, in a 16-bit PNG or TIFF."""
    gray = (pixels() if image is None else image).mean(axis=2)
    return _saved(Image.fromarray((gray / 255 * 4095).astype(np.uint16)), path)


def integer_tiff(path: Path, image: np.ndarray | None = None) -> Path:
    """32-bit integers, of which the largest is above 65,535."""
    gray = (pixels() if image is None else image).mean(axis=2)
    return _saved(Image.fromarray((gray * 1000).astype(np.int32)), path)


def rgba(path: Path, image: np.ndarray | None = None, alpha: int = 40) -> Path:
    """Colors with an even alpha channel."""
    colors = pixels() if image is None else image
    return _saved(Image.fromarray(np.dstack([colors, np.full(colors.shape[:2], alpha, np.uint8)])), path)


def gray_alpha(path: Path, image: np.ndarray | None = None, alpha: int = 40) -> Path:
    """Gray with an even alpha channel: mode LA."""
    gray = (pixels() if image is None else image)[..., 0]
    return _saved(Image.fromarray(np.dstack([gray, np.full(gray.shape, alpha, np.uint8)])), path)


def transparent_palette(path: Path, image: np.ndarray | None = None) -> Path:
    """A palette image of which one entry is transparent."""
    picture = Image.fromarray(pixels() if image is None else image).quantize(16)
    path.parent.mkdir(parents=True, exist_ok=True)
    picture.save(path, transparency=0)
    return path


def four_bands(path: Path, image: np.ndarray | None = None) -> Path:
    """A TIFF of four bands, red, green, blue and near infrared, as satellites have: mode CMYK or RGBA to Pillow."""
    colors = pixels() if image is None else image
    return _saved(Image.fromarray(np.dstack([colors, 255 - colors[..., 0]]), mode="RGBA"), path.with_suffix(".tif"))


def rotated(path: Path, image: np.ndarray | None = None, orientation: int = 6) -> Path:
    """A JPEG whose EXIF orientation says that it is shown turned."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels() if image is None else image).save(path, exif=exif)
    return path


def truncated(path: Path, keep: float = 0.5) -> Path:
    """An image file whose end is missing."""
    _saved(Image.fromarray(pixels(96, 128)), path)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * keep)])
    return path


# -- masks ----------------------------------------------------------------------------------------------------


def binary_mask(path: Path, mask: np.ndarray | None = None) -> Path:
    """Two classes as the values 0 and 255."""
    index = labels(classes=2) if mask is None else mask
    return _saved(Image.fromarray((index > 0).astype(np.uint8) * 255), path)


def palette_mask(path: Path, mask: np.ndarray | None = None, order: tuple[int, ...] = (2, 0, 1)) -> Path:
    """A palette PNG whose palette lists the colors of the classes in another order than `COLORS`.

    Pixel value ``order.index(c)`` has the color of class c: by color the mask is right, by value it is not.
    """
    index = labels() if mask is None else mask
    image = Image.fromarray(np.array([order.index(c) for c in range(len(order))], np.uint8)[index])
    image.putpalette([value for c in order for value in COLORS[c]])
    return _saved(image, path)


def color_mask(path: Path, mask: np.ndarray | None = None) -> Path:
    """An RGB PNG with the colors of the classes."""
    return _saved(Image.fromarray(np.array(COLORS, np.uint8)[labels() if mask is None else mask]), path)


def negative_mask(path: Path, mask: np.ndarray | None = None) -> Path:
    """A TIFF of signed integers where -1 stands for ignored pixels: the first column."""
    index = (labels() if mask is None else mask).astype(np.int32)
    index[:, 0] = -1
    return _saved(Image.fromarray(index), path.with_suffix(".tif"))


def index_mask(path: Path, mask: np.ndarray | None = None) -> Path:
    """A plain PNG of class indices."""
    return _saved(Image.fromarray(labels() if mask is None else mask), path)


# -- folders and names ----------------------------------------------------------------------------------------


def symlink_cycle(folder: Path) -> Path:
    """A link inside a folder to the folder itself."""
    folder.mkdir(parents=True, exist_ok=True)
    link = folder / "again"
    link.symlink_to(folder, target_is_directory=True)
    return link


def non_utf8_name(folder: Path, suffix: str = ".png") -> Path:
    """An image whose name is Latin-1 bytes, as old archives have them; Linux only."""
    folder.mkdir(parents=True, exist_ok=True)
    path = Path(os.fsdecode(os.fsencode(folder) + b"/caf\xe9" + suffix.encode()))
    return _saved(Image.fromarray(pixels()), path)


def write_classes(root: Path, names: tuple[str, ...] = ("other", "red", "green")) -> Path:
    """The class file of a folder data set, with `COLORS`."""
    root.mkdir(parents=True, exist_ok=True)
    lines = [f"- {{name: {n}, color: {list(c)}}}" for n, c in zip(names, COLORS)]
    path = root / "classes.yaml"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def folder_data_set(root: Path, n: int = 8) -> Path:
    """A whole folder data set: images/, masks/ of indices, classes.yaml."""
    write_classes(root)
    for i in range(n):
        _saved(Image.fromarray(pixels(seed=i)), root / "images" / f"{i:02d}.png")
        index_mask(root / "masks" / f"{i:02d}.png")
    return root


def _saved(image: Image.Image, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path)
    return path
