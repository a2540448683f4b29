"""labelme: one JSON file per photo, with shapes in drawing order."""

from __future__ import annotations

import base64
import binascii
import io
import math
from collections import Counter
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image
from pydantic import BaseModel

from semiseg.data.batch import IGNORE
from semiseg.data.labels.base import BLANK, Labeled, Labels, Names, Size, Source, blank, expect_size, paint_outline
from semiseg.data.labels.photos import inside, missing_photos
from semiseg.errors import InputError

SPECIAL = {"_background_": BLANK, "__ignore__": IGNORE}
"""Labels that are not classes, by labelme's own convention."""

_CORNERS = 64  # of the polygon that approximates a circle


class Shape(BaseModel):
    """One shape: corners (x, y) in pixels."""

    label: str
    points: list[tuple[float, float]]
    shape_type: str | None = "polygon"
    mask: str | None = None


class File(BaseModel):
    """The parts of a file that are read; the copy of the photo in ``imageData`` is not."""

    shapes: list[Shape]
    imagePath: str
    imageHeight: int | None = None
    imageWidth: int | None = None


def is_labelme(content: object) -> bool:
    """Whether the content of a JSON file looks like labelme's format."""
    return isinstance(content, dict) and "shapes" in content and "imagePath" in content


def read(source: Source) -> Labels:
    """Read all labelme files. Classes are in alphabetical order."""
    names, skipped, missing = Names(), Counter[str](), []
    found: list[tuple[Path, Path, File]] = []
    for path in source.with_suffix(".json"):
        if not is_labelme(source.json(path)):
            continue
        file = source.parse(path, File, "a labelme file")
        photo = source.photos.find(inside(file.imagePath, path, source.root), path)
        if photo is None:
            missing.append(file.imagePath)
            continue
        for shape in file.shapes:
            if _outline(shape) is None and shape.shape_type != "mask":
                skipped[f"{shape.shape_type}s"] += 1
            elif shape.label.strip() not in SPECIAL:
                names(shape.label, path)
        found.append((path, photo, file))
    notes = missing_photos(missing, len(found), source.root)
    notes += tuple(f"{count} {kind} have no area: skipped" for kind, count in skipped.items())
    classes, table = names.sorted()
    values = {**{name: int(table[index]) for name, index in names.index.items()}, **SPECIAL}
    images = [Labeled(photo, partial(_paint, path, file, values), empty=not file.shapes) for path, photo, file in found]
    return Labels("labelme JSON", classes, images, notes=notes)


def _paint(path: Path, file: File, values: dict[str, int], size: Size) -> np.ndarray:
    expect_size(path, (file.imageHeight, file.imageWidth), size)
    mask = blank(size)
    for shape in file.shapes:
        if shape.shape_type == "mask":
            _paste(mask, shape, values[shape.label.strip()], path)
        elif (outline := _outline(shape)) is not None:
            paint_outline(mask, [outline], values[shape.label.strip()], f"{path}: '{shape.label}'")
    return mask


def _outline(shape: Shape) -> list[float] | None:
    """The corners [x0, y0, x1, y1, ...] of a shape; None for shapes without area."""
    points, kind = shape.points, shape.shape_type or "polygon"
    if kind == "polygon" and len(points) > 2:
        return [v for point in points for v in point]
    if kind == "rectangle" and len(points) == 2:
        (left, top), (right, bottom) = points
        return [left, top, right, top, right, bottom, left, bottom]
    if kind == "circle" and len(points) == 2:
        (x, y), edge = points[0], points[1]
        radius = math.dist((x, y), edge)
        angles = [2 * math.pi * k / _CORNERS for k in range(_CORNERS)]
        return [v for t in angles for v in (x + radius * math.cos(t), y + radius * math.sin(t))]
    return None


def _paste(mask: np.ndarray, shape: Shape, value: int, path: Path) -> None:
    """Set ``value`` where a shape's own mask is set; that mask covers the box between the shape's two points."""
    try:
        (left, top), (right, bottom) = ((round(x), round(y)) for x, y in shape.points)
        with Image.open(io.BytesIO(base64.b64decode(shape.mask or "", validate=True))) as image:
            if image.size != (right - left + 1, bottom - top + 1):
                raise ValueError(
                    f"its mask has {image.width} x {image.height} pixels, which is not the size of its box"
                )
            inner = np.asarray(image.convert("L")) > 0
        window = mask[max(top, 0) : bottom + 1, max(left, 0) : right + 1]
        inner = inner[max(-top, 0) :, max(-left, 0) :][: window.shape[0], : window.shape[1]]
        window[inner] = value
    except (ValueError, OSError, binascii.Error, SyntaxError, OverflowError, Image.DecompressionBombError) as error:
        raise InputError(f"{path}: malformed mask of '{shape.label}' ({error}); export it again") from None
