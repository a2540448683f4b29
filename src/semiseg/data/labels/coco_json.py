"""COCO JSON with any classes, as exported by CVAT, Roboflow and others: polygons and run-length encodings."""

from __future__ import annotations

from collections import defaultdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel

from semiseg.data.labels.base import Labeled, Labels, Names, Size, Source, blank, expect_size, paint_outline
from semiseg.data.labels.photos import inside, missing_photos
from semiseg.data.readers.outlines import encloses
from semiseg.errors import InputError


class Category(BaseModel):
    """A class."""

    id: int
    name: str
    supercategory: str | None = None


class Picture(BaseModel):
    """An image; ``file_name`` may contain folders."""

    id: int | str
    file_name: str
    height: int | None = None
    width: int | None = None


class Annotation(BaseModel):
    """An object. CVAT writes masks as run-length encodings with ``iscrowd``, so crowds are painted too."""

    image_id: int | str
    category_id: int
    segmentation: list[list[float]] | dict[str, Any] | None = None


class File(BaseModel):
    """The parts of a file that are read."""

    images: list[Picture]
    annotations: list[Annotation]
    categories: list[Category]


def is_coco(content: object) -> bool:
    """Whether the content of a JSON file looks like COCO."""
    return isinstance(content, dict) and content.keys() >= {"images", "annotations", "categories"}


def read(source: Source) -> Labels:
    """Read all COCO files together; classes with the same name are merged and ordered by category id.

    Roboflow adds a category without objects that only names a group of others; it is skipped.
    """
    names, missing = Names(), []
    boxes = flat = strays = 0
    images: list[Labeled] = []
    for path in source.with_suffix(".json"):
        if not is_coco(source.json(path)):
            continue
        file = source.parse(path, File, "a COCO file")
        used = {a.category_id for a in file.annotations}
        groups = {c.supercategory for c in file.categories if c.id in used}
        if len({c.id for c in file.categories}) < len(file.categories):
            raise InputError(f"{path}: two categories have the same id; export it again")
        kept = [c for c in sorted(file.categories, key=lambda c: c.id) if c.id in used or c.name not in groups]
        values = {c.id: names(c.name, path) for c in kept}
        objects: dict[str, list[Annotation]] = defaultdict(list)  # some tools write ids of images as text
        for annotation in file.annotations:
            if not annotation.segmentation:
                boxes += 1
            elif isinstance(annotation.segmentation, list) and not any(map(encloses, annotation.segmentation)):
                flat += 1
            objects[str(annotation.image_id)].append(annotation)
        strays += sum(len(objects[i]) for i in objects.keys() - {str(picture.id) for picture in file.images})
        for picture in file.images:
            photo = source.photos.find(inside(picture.file_name, path, source.root), path)
            if photo is None:
                missing.append(picture.file_name)
                continue
            own = objects[str(picture.id)]
            images.append(Labeled(photo, partial(_paint, path, picture, own, values), empty=not own))
    notes = missing_photos(missing, len(images), source.root)
    if boxes:
        notes += (f"{boxes} objects have a box but no outline: skipped",)
    if flat:
        notes += (f"{flat} objects have outlines with fewer than three corners: skipped",)
    if strays:
        notes += (f"{strays} objects have an image_id that no image of their file has: skipped",)
    return Labels("COCO JSON", tuple(names.index), images, notes=notes)


def _paint(path: Path, picture: Picture, objects: list[Annotation], values: dict[int, int], size: Size) -> np.ndarray:
    """Paint the objects of an image in file order."""
    expect_size(path, (picture.height, picture.width), size)
    mask = blank(size)
    where = f"{path}: {picture.file_name}"
    for o in objects:
        if o.category_id not in values:
            raise InputError(f"{where}: category_id {o.category_id} is not in the categories of the file")
        if o.segmentation:
            paint_outline(mask, o.segmentation, values[o.category_id], where)
    return mask
