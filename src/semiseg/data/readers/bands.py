"""Images with any number of channels (``data.channels``): gray, RGB plus infrared, satellite bands.

TIFF files are read by rasterio if it is installed (``semiseg[geo]``), all others by Pillow. The channels are those of
the file, in file order; their number must match. Two exceptions: an extra transparency channel is dropped, and for one
channel colors are converted to gray (ITU-R 601). EXIF orientation is applied.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import numpy as np
from PIL import ImageOps

from semiseg.data.readers.images import MEASURED, SAMPLED, SHARE, ValueRange, opened, read_image, to_bytes
from semiseg.data.readers.limits import MAX_PIXELS
from semiseg.data.readers.raster import opened_raster
from semiseg.errors import InputError

T = TypeVar("T")
TIFF = (".tif", ".tiff")


def read_channels(
    path: Path,
    channels: int,
    *,
    value_range: Callable[[], ValueRange | None] | None = None,
    max_pixels: int = MAX_PIXELS,
) -> np.ndarray:
    """Read an image with ``channels`` channels; three channels are read by `read_image`.

    Returns:
        (H, W, channels) uint8; wider samples are mapped from the value range.

    Raises:
        InputError: as `read_image`; or if the file has another number of channels.
    """
    if channels == 3:
        return read_image(path, value_range=value_range, max_pixels=max_pixels)
    samples = read_bands(path, channels, max_pixels)
    return samples if samples.dtype == np.uint8 else to_bytes(path, samples, value_range)


def read_bands(path: Path, channels: int, max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """(H, W, channels) of the file's own type. Raises InputError as `read_channels`."""
    samples = _by_rasterio(path, max_pixels) if path.suffix.lower() in TIFF else None
    if samples is None or (channels == 1 and samples.shape[2] > 2):
        samples = _by_pillow(path, channels, max_pixels)
    found = samples.shape[2]
    if found == channels + 1 and found in (2, 4):  # gray or RGB with transparency
        return np.ascontiguousarray(samples[..., :channels])
    if found != channels:
        hint = "; pip install 'semiseg[geo]' reads all bands of a TIFF" if path.suffix.lower() in TIFF else ""
        raise InputError(f"{path}: {found} channels, data.channels={channels} asked for{hint}")
    return samples


def measure_channel_range(paths: Sequence[Path], channels: int, max_pixels: int = MAX_PIXELS) -> ValueRange | None:
    """One value range for all channels of the wide images among up to `MEASURED`, see `measure_range`."""
    with ThreadPoolExecutor() as pool:
        ends = [e for e in pool.map(lambda p: _ends(p, channels, max_pixels), _evenly(paths)) if e is not None]
    if not ends:
        return None
    low, high = min(low for low, _ in ends), max(high for _, high in ends)
    return low, high if high > low else low + 1


def measure_statistics(
    load: Callable[[str], np.ndarray], ids: Sequence[str], channels: int
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of each channel over up to `MEASURED` evenly spaced images scaled to [0, 1].

    Args:
        load: id -> (H, W, channels) uint8.
        ids: ids of the training images.
        channels: channels of each image.
    """
    total, squares, count = np.zeros(channels), np.zeros(channels), 0
    with ThreadPoolExecutor() as pool:
        for image in pool.map(load, _evenly(ids)):
            pixels = image.reshape(-1, channels)[:: -(-image.shape[0] * image.shape[1] // SAMPLED)] / 255
            total, squares, count = total + pixels.sum(0), squares + np.square(pixels).sum(0), count + len(pixels)
    mean = total / max(count, 1)
    deviation = np.sqrt(np.maximum(squares / max(count, 1) - np.square(mean), 0))
    return tuple(mean.tolist()), tuple(np.maximum(deviation, 1 / 255).tolist())  # a channel may be constant


def as_rgb(image: np.ndarray) -> np.ndarray:
    """(..., N) -> (..., 3) for display: the first three channels, or the first one as gray."""
    return image[..., :3] if image.shape[-1] >= 3 else np.repeat(image[..., :1], 3, axis=-1)


def _by_pillow(path: Path, channels: int, max_pixels: int) -> np.ndarray:
    with opened(path, max_pixels) as image:
        turned = ImageOps.exif_transpose(image)
        if turned.mode in ("P", "PA"):
            turned = turned.convert("RGBA" if "transparency" in turned.info or turned.mode == "PA" else "RGB")
        if turned.mode == "1" or (channels == 1 and len(turned.getbands()) > 2):
            turned = turned.convert("L")
        samples = np.array(turned)
    return samples[..., None] if samples.ndim == 2 else samples


def _by_rasterio(path: Path, max_pixels: int) -> np.ndarray | None:
    """(H, W, N); None if rasterio is not installed or cannot read the file."""
    with opened_raster(path) as file:
        if file is None:
            return None
        if file.width * file.height > max_pixels:
            raise InputError(
                f"{path}: {file.width} x {file.height} pixels are more than max_pixels={max_pixels}; if the file is "
                f"meant to be that large, set max_pixels={file.width * file.height} (data.max_pixels for training)"
            )
        try:
            return np.ascontiguousarray(file.read().transpose(1, 2, 0))
        except Exception as error:  # rasterio's own, and what GDAL's codecs raise
            raise InputError(f"{path}: cannot be read as an image ({error})") from error


def _ends(path: Path, channels: int, max_pixels: int) -> ValueRange | None:
    try:
        samples = read_bands(path, channels, max_pixels)
    except InputError:  # raised again when the image is read
        return None
    if samples.dtype == np.uint8:
        return None
    values = samples.ravel()[:: -(-samples.size // SAMPLED)]
    values = values[np.isfinite(values)]
    return None if values.size == 0 else tuple(float(np.percentile(values, q)) for q in (SHARE, 100 - SHARE))  # type: ignore[return-value]


def _evenly(items: Sequence[T]) -> Sequence[T]:
    return items[:: -(-len(items) // MEASURED) or 1]
