"""Detect from its files which tool wrote the labels of a folder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Literal

from semiseg.data.datasets.class_file import ClassFile
from semiseg.data.labels import coco_json, cvat_masks, label_studio, labelme, mask_images, yolo
from semiseg.data.labels.base import Labels, Source
from semiseg.data.readers.listing import several
from semiseg.errors import InputError

Format = Literal["auto", "labelme", "coco", "yolo", "label_studio", "cvat_masks", "masks"]

READERS: dict[str, Callable[[Source], Labels]] = {
    "labelme": labelme.read,
    "coco": coco_json.read,
    "yolo": yolo.read,
    "label_studio": label_studio.read,
    "cvat_masks": cvat_masks.read,
}

_JSON = {"labelme": labelme.is_labelme, "coco": coco_json.is_coco, "label_studio": label_studio.is_label_studio}


def detect(source: Source) -> str:
    """The format of a source; "masks" if no tool's files are found.

    Raises:
        InputError: for files of several tools, or if no JSON file has a known format.
    """
    found: dict[str, Path] = {}
    unknown = []
    for path in source.with_suffix(".json"):
        kind = next((name for name, is_one in _JSON.items() if is_one(source.json(path))), None)
        if kind is None:
            unknown.append(path)
        else:
            found.setdefault(kind, path)
    if cvat_masks.label_map(source) is not None:
        found["cvat_masks"] = source.root
    if pngs := label_studio.png_files(source):
        found.setdefault("label_studio", pngs[0])
    if files := yolo.label_files(source):
        found["yolo"] = files[0]
    if len(found) > 1:
        listed = ", ".join(f"{name} ({path})" for name, path in found.items())
        raise InputError(f"{source.root}: labels of several tools: {listed}; choose one: format={next(iter(found))}")
    if source.only and not found:
        raise InputError(f"{source.only}: neither COCO JSON, labelme JSON nor a Label Studio export")
    if unknown and not found and not source.with_suffix(".png", ".bmp", ".tif", ".tiff"):
        raise InputError(f"{several(unknown, 3)}: neither COCO JSON, labelme JSON nor a Label Studio export")
    return next(iter(found), "masks")


def read_labels(
    source: Source, format: Format = "auto", *, class_file: ClassFile | None = None, mask_name: str | None = None
) -> Labels:
    """All labels of a source.

    Args:
        source: the folder of labels.
        format: their format; "auto": see `detect`.
        class_file: colors and values of mask images, see `mask_images.read`.
        mask_name: how masks are named, see `mask_names.fit`.

    Raises:
        InputError: naming the file, if labels cannot be read or there are none.
    """
    name = detect(source) if format == "auto" else format
    if name == "masks":
        return mask_images.read(source, class_file, mask_name)
    if mask_name is not None:
        raise InputError(f"mask_name={mask_name}: the labels are {name}, not mask images; remove it")
    labels = READERS[name](source)
    if not labels.images:
        raise InputError(f"{source.root}: no labels of the format {name}")
    return labels
