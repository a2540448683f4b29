"""Prediction of GeoTIFF files of any size: read and written window by window; georeferencing is kept."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from tqdm import tqdm

from semiseg.data.batch import IGNORE
from semiseg.data.readers.bands import TIFF, as_rgb
from semiseg.data.readers.images import to_bytes
from semiseg.data.readers.raster import opened_raster
from semiseg.errors import InputError
from semiseg.runs.files import replacing
from semiseg.training.overlay import draw_overlay
from semiseg.training.predictor import Predictor

CORE = 1024  # side in pixels of the part of each window that is kept
MARGIN = 128  # pixels around it that are predicted and discarded, so that borders of windows do not show
BLOCK = 512  # side in pixels of a tile in the output files
LOOK = 2048  # longer side in pixels of the overview picture

Span = tuple[int, int]
"""First row or column, and the end (exclusive)."""


def is_raster(path: Path, max_pixels: int) -> bool:
    """Whether a file is a georeferenced TIFF, or one with more than ``max_pixels`` pixels; needs rasterio."""
    if path.suffix.lower() not in TIFF:
        return False
    with opened_raster(path) as file:
        if file is None:
            return False
        placed = file.crs is not None or not file.transform.is_identity
        return bool(placed or file.width * file.height > max_pixels)


def predict_raster(predictor: Predictor, path: Path, files: Mapping[str, Path], threshold: float | None = None) -> None:
    """Write the classes of a raster, and optionally their confidence, as tiled GeoTIFF; and an overview picture.

    Args:
        predictor: the network; it splits a window further if it does not fit into memory.
        path: the raster. Missing pixels (nodata, or transparent) become 255.
        files: output paths for ``index``, ``overlay`` and optionally ``confidence``.
        threshold: pixels whose class has a lower probability become 255.

    Raises:
        InputError: naming the file: it cannot be read, has another number of channels, or values of unknown range.
    """
    import rasterio

    for file in files.values():
        file.parent.mkdir(parents=True, exist_ok=True)
    with opened_raster(path) as source, ExitStack() as stack:
        if source is None:
            raise InputError(f"{path}: cannot be read as a raster")
        profile = {
            "driver": "GTiff", "width": source.width, "height": source.height, "count": 1, "dtype": "uint8",
            "crs": source.crs, "transform": source.transform, "compress": "deflate", "tiled": True,
            "blockxsize": BLOCK, "blockysize": BLOCK, "BIGTIFF": "IF_SAFER",
        }  # fmt: skip
        kinds = [
            kind for kind in ("confidence", "index") if kind in files
        ]  # the index last: its presence marks a complete result
        beside = {kind: stack.enter_context(replacing(files[kind])) for kind in kinds}
        outputs: dict[str, Any] = {
            kind: stack.enter_context(rasterio.open(beside[kind], "w", **profile | _extra(kind, predictor)))
            for kind in kinds
        }
        outputs["index"].write_colormap(1, {i: (*color, 255) for i, color in enumerate(predictor.palette)})
        spans = list(_spans(source.height, source.width))
        for rows, columns in tqdm(spans, path.name, unit="window", disable=None, leave=False):
            index, sure = _window(predictor, source, path, rows, columns, threshold)
            window = ((rows[0], rows[1]), (columns[0], columns[1]))
            outputs["index"].write(index, 1, window=window)
            if "confidence" in outputs:
                outputs["confidence"].write(sure, 1, window=window)
        for output in outputs.values():
            output.close()
        _picture(predictor, source, path, beside["index"], files["overlay"])


def _extra(kind: str, predictor: Predictor) -> dict[str, Any]:
    return {"nodata": IGNORE} if kind == "index" and len(predictor.classes) <= IGNORE else {}


def _spans(height: int, width: int) -> Iterator[tuple[Span, Span]]:
    for top in range(0, height, CORE):
        for left in range(0, width, CORE):
            yield (top, min(top + CORE, height)), (left, min(left + CORE, width))


def _window(
    predictor: Predictor, source: Any, path: Path, rows: Span, columns: Span, threshold: float | None
) -> tuple[np.ndarray, np.ndarray]:
    """(h, w) uint8 classes, and the probability of each as 0..255."""
    top, bottom = max(rows[0] - MARGIN, 0), min(rows[1] + MARGIN, source.height)
    left, right = max(columns[0] - MARGIN, 0), min(columns[1] + MARGIN, source.width)
    window = ((top, bottom), (left, right))
    pixels = _read(predictor, source, path, window=window)
    highest, labels = predictor(pixels[None])[0].max(0)
    inner = (slice(rows[0] - top, rows[1] - top), slice(columns[0] - left, columns[1] - left))
    index, sure = labels[inner].byte().cpu().numpy(), highest[inner].cpu().numpy()
    if threshold is not None:
        index[sure < threshold] = IGNORE
    missing = source.dataset_mask(window=(rows, columns)) == 0
    if len(predictor.classes) <= IGNORE:
        index[missing] = IGNORE
    return index, np.rint(255 * sure).astype(np.uint8)


def _read(predictor: Predictor, source: Any, path: Path, **how: Any) -> np.ndarray:
    """(h, w, channels) uint8: a part of a raster, or all of it at another size."""
    wanted, found = predictor.channels, source.count
    if found == 1 and wanted == 3:
        bands = [1, 1, 1]
    elif found == wanted or (found == wanted + 1 and found in (2, 4)):
        bands = list(range(1, wanted + 1))
    else:
        raise InputError(f"{path}: {found} channels, expected {wanted} as in training")
    if "out_shape" in how:
        how["out_shape"] = (wanted, *how["out_shape"])
    try:
        samples = source.read(bands, **how).transpose(1, 2, 0)
    except Exception as error:  # errors of rasterio and of GDAL's codecs
        raise InputError(f"{path}: cannot be read as a raster ({error})") from error
    return np.ascontiguousarray(samples if samples.dtype == np.uint8 else _to_bytes(predictor, path, samples))


def _to_bytes(predictor: Predictor, path: Path, samples: np.ndarray) -> np.ndarray:
    return to_bytes(path, samples, lambda: predictor.value_range)


def _picture(predictor: Predictor, source: Any, path: Path, index: Path, target: Path) -> None:
    scale = min(1.0, LOOK / max(source.height, source.width))
    shape = (max(1, round(source.height * scale)), max(1, round(source.width * scale)))
    pixels = as_rgb(_read(predictor, source, path, out_shape=shape))
    with opened_raster(index) as written:
        small = written.read(1, out_shape=shape)
    draw_overlay(Image.fromarray(pixels), small, predictor.palette).save(target, quality=90)
