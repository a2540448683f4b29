"""Decode polygons and run-length encodings with pycocotools. Malformed ones never reach its C code."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

FAR = 16  # times the longer side of the image: corners farther away are rejected


def decode(outline: Any, height: int, width: int) -> np.ndarray:
    """Decode a COCO outline into a mask of its inside.

    Args:
        outline: a list of polygons [x0, y0, x1, y1, ...] in pixels, or a run-length encoding: a mapping with ``size``
            [height, width] and ``counts``, a list of runs or a compressed string.
        height, width: size of the image.

    Returns:
        (H, W) bool.

    Raises:
        ValueError: for an outline that is malformed or belongs to another image size.
        Exception: anything else that pycocotools raises.
    """
    from pycocotools import mask as coco  # few data sets need it

    if isinstance(outline, dict):
        if list(outline["size"]) != [height, width]:
            raise ValueError(f"size {list(outline['size'])}, the image has {[height, width]}")
        code = outline
        if isinstance(outline["counts"], (str, bytes)):
            _check_text(outline["counts"])
        else:
            _check_runs(outline["counts"], height * width)
            code = coco.frPyObjects(outline, height, width)
        return coco.decode(code).astype(bool)
    for polygon in outline:
        _check_corners(polygon, FAR * max(height, width))
    polygons = [p for p in outline if encloses(p)]
    if not polygons:
        return np.zeros((height, width), bool)
    return coco.decode(coco.merge(coco.frPyObjects(polygons, height, width))).astype(bool)


def encloses(polygon: Sequence[float]) -> bool:
    """Whether a polygon has at least three corners; fewer enclose nothing."""
    return len(polygon) >= 6


def _check_corners(polygon: Any, limit: int) -> None:
    corners = np.asarray(polygon, np.float64)
    if len(corners) % 2:
        raise ValueError(f"{len(corners)} coordinates, an odd number")
    if not (np.abs(corners) <= limit).all():  # NaN is not
        raise ValueError("a corner is not finite or is far outside the image")


def _check_runs(counts: Any, pixels: int) -> None:
    runs = np.asarray(counts)
    if runs.size and (runs.dtype.kind not in "iu" or (runs < 0).any()):
        raise ValueError("a run is not a non-negative integer")
    if int(runs.sum()) != pixels:
        raise ValueError(f"the runs cover {int(runs.sum())} pixels, the image has {pixels}")


def _check_text(text: str | bytes) -> None:
    codes = np.frombuffer(text.encode("ascii") if isinstance(text, str) else text, np.uint8).astype(np.int64) - 48
    if ((codes < 0) | (codes > 63)).any() or (codes.size and codes[-1] & 32):  # 32: continuation bit
        raise ValueError("the compressed runs are corrupt")
