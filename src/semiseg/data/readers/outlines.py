"""Insides of polygons and run-length codes, by pycocotools. Broken ones are refused before its C code sees them."""

from __future__ import annotations

from typing import Any

import numpy as np

FAR = 16  # times the longer side of the image: corners further away are refused


def decode(outline: Any, height: int, width: int) -> np.ndarray:
    """Inside of an outline of COCO.

    Args:
        outline: a list of polygons [x0, y0, x1, y1, ...] in pixels, or a run-length code: a mapping with ``size``
            [height, width] and ``counts``, a list of runs or compressed text.
        height, width: of the image.

    Returns:
        (H, W) bool.

    Raises:
        ValueError: for an outline that is broken or of another image size.
        Exception: whatever else pycocotools raises.
    """
    from pycocotools import mask as coco  # needed by few data sets

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
    polygons = [p for p in outline if len(p) >= 6]  # fewer than three corners have no inside
    if not polygons:
        return np.zeros((height, width), bool)
    for polygon in polygons:
        _check_corners(polygon, FAR * max(height, width))
    return coco.decode(coco.merge(coco.frPyObjects(polygons, height, width))).astype(bool)


def _check_corners(polygon: Any, limit: int) -> None:
    corners = np.asarray(polygon, np.float64)
    if len(corners) % 2:
        raise ValueError(f"{len(corners)} coordinates, an odd number")
    if not (np.abs(corners) <= limit).all():  # NaN is not
        raise ValueError("a corner is not finite, or lies far outside the image")


def _check_runs(counts: Any, pixels: int) -> None:
    runs = np.asarray(counts)
    if runs.size and (runs.dtype.kind not in "iu" or (runs < 0).any()):
        raise ValueError("a run is not a whole number from 0")
    if int(runs.sum()) != pixels:
        raise ValueError(f"the runs hold {int(runs.sum())} pixels, the image has {pixels}")


def _check_text(text: str | bytes) -> None:
    codes = np.frombuffer(text.encode("ascii") if isinstance(text, str) else text, np.uint8).astype(np.int64) - 48
    if ((codes < 0) | (codes > 63)).any() or (codes.size and codes[-1] & 32):  # 32: the number goes on
        raise ValueError("the compressed runs are damaged")
