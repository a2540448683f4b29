"""Masks as outlines that a person can drag: files of labelme."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np

from semiseg.data.batch import IGNORE

IGNORED = "__ignore__"
"""labelme's own name for pixels of no class."""
FORMAT = "5.5.0"  # version of labelme whose files these are like
SMALLEST = 1e-4  # share of the image below which a region gets no outline
DETAIL = 1000  # outlines are exact to half of the longer side divided by this, and not finer than half a pixel


def labelme_file(mask: np.ndarray, classes: Sequence[str], photo: str) -> dict[str, Any]:
    """A mask as the content of a labelme file.

    Large regions come first, so that what lies inside them is painted over them. Pixels that are ignored have outlines
    labeled ``__ignore__``: a person gives them the right label.

    Args:
        mask: (H, W) uint8, class indices, or 255.
        classes: names by index.
        photo: name of the image file, which lies beside the file.
    """
    names = {**dict(enumerate(classes)), IGNORE: IGNORED}
    shapes: list[dict[str, Any]] = [
        {"label": names[value], "points": points, "group_id": None, "description": "", "shape_type": "polygon",
         "flags": {}, "mask": None}
        for value, points in outlines(mask)
    ]  # fmt: skip
    height, width = mask.shape
    size = {"imageHeight": height, "imageWidth": width}
    return {"version": FORMAT, "flags": {}, "shapes": shapes, "imagePath": photo, "imageData": None, **size}


def outlines(mask: np.ndarray) -> list[tuple[int, list[list[float]]]]:
    """(value, corners (x, y) in pixels) of every connected region of a mask, large ones first.

    An outline covers the holes of its region. Regions below ``SMALLEST`` of the image are left to what surrounds them.
    """
    least = max(4.0, SMALLEST * mask.size)
    exact = max(1.0, max(mask.shape) / DETAIL)  # in half pixels, as the corners of the contours
    found: list[tuple[float, int, list[list[float]]]] = []
    for value in np.unique(mask).tolist():
        # Twice the size, for an outline runs through the centers of the outermost pixels: half of these is lost.
        inside = np.repeat(np.repeat((mask == value).astype(np.uint8), 2, 0), 2, 1)
        contours, hierarchy = cv2.findContours(inside, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
        for contour, (_, _, _, parent) in zip(contours, hierarchy[0]):
            if parent >= 0:  # a hole
                continue
            area = cv2.contourArea(contour) / 4
            corners = cv2.approxPolyDP(contour, exact, True)[:, 0]
            if area < least or len(corners) < 3:
                continue
            found.append((area, value, [[(x + 0.5) / 2, (y + 0.5) / 2] for x, y in corners.tolist()]))
    found.sort(key=lambda item: -item[0])
    return [(value, points) for _, value, points in found]
