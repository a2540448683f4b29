"""The only image reader, so that training, evaluation, prediction, checks and picture sheets see the same pixels.

An image is read as it is displayed, with its EXIF orientation applied. Palette, gray and CMYK images become RGB. Alpha
is dropped, keeping the colors of transparent pixels. Only the first frame of an animation is read. 8-bit samples are
kept as they are; wider ones (16-bit, 32-bit, floating point) are mapped linearly from a value range to 0..255.
"""

from __future__ import annotations

import os
import stat
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from semiseg.data.readers.limits import MAX_PIXELS as MAX_PIXELS
from semiseg.errors import InputError

HEADERS = 500  # read by a thread in one task
MEASURED = 200  # at most this many images are used to measure the value range
SAMPLED = 250_000  # pixels of each
SHARE = 0.1  # percent of the pixels of an image that may fall below its range, and above it
WIDE_SUFFIXES = frozenset({".png", ".tif", ".tiff", ".pgm", ".ppm"})  # formats that can hold more than 8 bits

ValueRange = tuple[float, float]
"""The values mapped to 0 and 255; values outside are clipped."""

_ORIENTATION = 0x0112
_TURNED = {  # EXIF orientation -> the array as it is displayed
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: a.swapaxes(0, 1)[:, ::-1],
    7: lambda a: a[::-1, ::-1].swapaxes(0, 1),
    8: lambda a: a.swapaxes(0, 1)[::-1],
}
_pillow_limit = threading.Lock()


def read_image(
    path: Path, *, value_range: Callable[[], ValueRange | None] | None = None, max_pixels: int = MAX_PIXELS
) -> np.ndarray:
    """Read an image by the rules of this module.

    Args:
        path: the file.
        value_range: returns the range of samples wider than 8 bits; only called for such an image, as the range may
            have to be measured.
        max_pixels: larger images are rejected.

    Returns:
        (H, W, 3) uint8, RGB.

    Raises:
        InputError: naming the file, if it is missing, not a regular file, not an image, truncated or too large, or has
            samples wider than 8 bits and no range is known.
    """
    samples = read_samples(path, max_pixels)
    if samples.dtype == np.uint8:
        return samples
    rounded = to_bytes(path, samples, value_range)
    return rounded if rounded.ndim == 3 else np.repeat(rounded[..., None], 3, axis=2)


def to_bytes(path: Path, samples: np.ndarray, value_range: Callable[[], ValueRange | None] | None) -> np.ndarray:
    """Map samples of a wider type linearly from a value range to 0..255, uint8.

    Raises:
        InputError: the range is not known; names the file.
    """
    ends = None if value_range is None else value_range()
    if ends is None:
        raise InputError(
            f"{path}: {samples.dtype} values of unknown range; set data.range=[low, high], or convert it to 8 bits"
        )
    low, high = ends
    scaled = (samples.astype(np.float64) - low) * (255 / (high - low))
    scaled = np.nan_to_num(scaled, nan=0, posinf=255, neginf=0).clip(0, 255)
    rounded: np.ndarray = (scaled + 0.5).astype(np.uint8)
    return rounded


def read_samples(path: Path, max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """Read an image without mapping its values.

    Returns:
        (H, W, 3) uint8, RGB; for wider samples (H, W) or (H, W, 3) in the file's own type.

    Raises:
        InputError: as `read_image`.
    """
    with opened(path, max_pixels, load=False) as image:
        turn = _orientation(image)
        if not _is_wide(image):
            image.load()
            image.info.pop("transparency", None)  # alpha is dropped; avoids Pillow's warning about it
            samples = np.array(image.convert("RGB"))
            # Pillow itself rotates a TIFF file when it loads it.
            turn = 1 if image.format == "TIFF" else turn
        elif image.mode in ("I", "F") or image.mode.startswith("I;16"):
            image.load()
            samples = np.array(image)
            turn = 1 if image.format == "TIFF" else turn
        else:  # Pillow keeps only 8 bits of wide colors
            samples = _read_wide_colors(path)
    return np.ascontiguousarray(_TURNED[turn](samples)) if turn in _TURNED else samples


def is_wide(path: Path) -> bool:
    """Whether an image has samples wider than 8 bits. Reads only the header; False for an unreadable file."""
    suffix = path.suffix.lower()
    if suffix not in WIDE_SUFFIXES:
        return False
    if suffix == ".png" and (bits := _bits_of_png(path)) is not None:
        return bits > 8
    try:
        with opened(path, max_pixels=None, load=False) as image:
            return _is_wide(image)
    except InputError:
        return False


def _bits_of_png(path: Path) -> int | None:
    """Bits per sample, from the first bytes: many times faster than Pillow. None if they are not a PNG header."""
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            return None
        with open(path, "rb") as file:
            head = file.read(25)
    except OSError:
        return None
    return head[24] if len(head) == 25 and head[:8] == b"\x89PNG\r\n\x1a\n" and head[12:16] == b"IHDR" else None


def orientation(path: Path) -> int:
    """EXIF orientation of an image, 1..8; 1 if unreadable or not stated. Reads only the header."""
    try:
        with opened(path, max_pixels=None, load=False) as image:
            return _orientation(image)
    except InputError:
        return 1


def measure_range(paths: Sequence[Path], max_pixels: int = MAX_PIXELS) -> ValueRange | None:
    """Measure the value range of the images that have samples wider than 8 bits.

    Reads the header of every image whose format may have such samples, and up to `MEASURED` evenly spaced wide images.
    The range extends from the lowest 0.1th percentile of any image to the highest 99.9th, so that single hot pixels do
    not count.

    Returns:
        (low, high) with low < high; None if no image is wide.
    """
    candidates = [path for path in paths if path.suffix.lower() in WIDE_SUFFIXES]
    parts = [candidates[i : i + HEADERS] for i in range(0, len(candidates), HEADERS)]
    with ThreadPoolExecutor() as pool:
        wide = [path for part in pool.map(lambda part: [p for p in part if is_wide(p)], parts) for path in part]
        chosen = wide[:: -(-len(wide) // MEASURED) or 1]
        ends = [pair for pair in pool.map(lambda path: _percentiles(path, max_pixels), chosen) if pair is not None]
    if not ends:
        return None
    low, high = min(low for low, _ in ends), max(high for _, high in ends)
    return low, high if high > low else low + 1


@contextmanager
def opened(path: Path, max_pixels: int | None = MAX_PIXELS, *, load: bool = True) -> Iterator[Image.Image]:
    """Open an image; any error inside becomes an InputError that names the file.

    Args:
        path: the file.
        max_pixels: larger images are rejected; None: no limit.
        load: decode it fully, so that a truncated file fails here.
    """
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):  # reading from a pipe would block forever
            raise InputError(f"{path}: not a regular file")
        with _open_header(path) as image:
            width, height = image.size
            if max_pixels is not None and width * height > max_pixels:
                raise InputError(
                    f"{path}: {width} x {height} pixels are more than max_pixels={max_pixels}; if the file is meant to "
                    f"be that large, set max_pixels={width * height} (data.max_pixels for training)"
                )
            if load:
                image.load()
            yield image
    except InputError:
        raise
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except MemoryError:
        raise InputError(f"{path}: too large for the memory of this machine") from None
    except Exception as error:  # Pillow's decoders raise OSError, SyntaxError, ValueError, struct.error, ...
        raise InputError(f"{path}: cannot be read as an image ({error})") from error


def _open_header(path: Path) -> Image.Image:
    """Open without Pillow's size limit, which is global to the process; `opened` has its own."""
    with _pillow_limit:
        limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            return Image.open(path)
        finally:
            Image.MAX_IMAGE_PIXELS = limit


def _is_wide(image: Image.Image) -> bool:
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        return True
    # Pillow has no mode for wide colors: the raw mode, such as "RGB;16B", is in its decoder's arguments.
    return any(";16" in str(tile[3]) for tile in getattr(image, "tile", ()))


def _read_wide_colors(path: Path) -> np.ndarray:
    """(H, W, 3), RGB, of 16-bit samples, not rotated; alpha dropped."""
    samples = cv2.imdecode(np.frombuffer(path.read_bytes(), np.uint8), cv2.IMREAD_UNCHANGED)
    if samples is None:
        raise InputError(f"{path}: 16-bit color image that cannot be decoded; convert it to 8 bits")
    return samples if samples.ndim == 2 else samples[..., 2::-1]


def _orientation(image: Image.Image) -> int:
    # For a PNG file, Pillow would decode the whole image to find EXIF data after the pixels.
    if image.format == "PNG" and "exif" not in image.info:
        return 1
    return int(image.getexif().get(_ORIENTATION, 1))


def _percentiles(path: Path, max_pixels: int) -> ValueRange | None:
    try:
        values = read_samples(path, max_pixels).ravel()
    except InputError:  # raised again when the image is read
        return None
    values = values[:: -(-values.size // SAMPLED)]
    values = values[np.isfinite(values)]
    return (
        None if values.size == 0 else (float(np.percentile(values, SHARE)), float(np.percentile(values, 100 - SHARE)))
    )
