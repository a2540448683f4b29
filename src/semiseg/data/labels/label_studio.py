"""Label Studio: JSON and JSON-MIN exports (polygons, rectangles, brush masks), and PNG exports of brush masks."""

from __future__ import annotations

import math
import re
from collections import Counter, defaultdict
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote

import numpy as np

from semiseg.data.labels.base import Labeled, Labels, Names, Size, Source, blank, expect_size, paint_outline
from semiseg.data.labels.label_studio_rle import decode_brush
from semiseg.data.labels.photos import missing_photos
from semiseg.data.readers.listing import IMAGE_SUFFIXES
from semiseg.data.readers.masks import read_index_mask
from semiseg.errors import InputError

PNG_NAME = re.compile(r"task-(\d+)-annotation-(\d+)-by-.*?-tag-(.+)-(\d+)$")
"""Stem of a brush mask: task, annotation, annotator, label, number."""

_UPLOAD = re.compile(r"^[0-9a-f]{8}-")  # prefix of uploaded files
_KINDS = ("polygonlabels", "brushlabels", "rectanglelabels")


def is_label_studio(content: object) -> bool:
    """Whether the content of a JSON file is a list of tasks."""
    return isinstance(content, list) and bool(content) and all(isinstance(t, dict) and _image(t) for t in content)


def png_files(source: Source) -> list[Path]:
    """Brush masks exported as PNG."""
    return [path for path in source.with_suffix(".png") if PNG_NAME.search(path.stem)]


def read(source: Source) -> Labels:
    """Read all tasks; the last annotation of a task counts. Classes are in alphabetical order."""
    pngs: dict[int, list[Path]] = defaultdict(list)
    for path in png_files(source):
        pngs[int(PNG_NAME.search(path.stem)[1])].append(path)  # type: ignore[index]
    names, skipped, missing = Names(), Counter[str](), []
    found: list[tuple[Path, Path, list[Any]]] = []
    repeated = 0
    for path in source.with_suffix(".json"):
        if not is_label_studio(source.json(path)):
            continue
        for task in source.json(path):
            regions, others = _regions(task, path)
            if not regions and task.get("id") in pngs:
                regions = sorted(pngs[task["id"]], key=_number)
            if regions is None:
                continue
            repeated += others
            photo = _photo(source, task, path)
            if photo is None:
                missing.append(PurePosixPath(_image(task)).name)
                continue
            for region in regions:
                label = _label(region)
                if label is None:
                    skipped[str(region.get("type", "regions of unknown type"))] += 1
                else:
                    names(label, path)
            found.append((path, photo, [r for r in regions if _label(r) is not None]))
    if pngs and not found and not missing:
        raise InputError(
            f"{source.root}: Label Studio's PNG file names contain the task id, not the photo's name; export JSON-MIN "
            "too and put it next to them"
        )
    notes = missing_photos(missing, len(found), source.root)
    notes += tuple(f"{count} {kind} have no area: skipped" for kind, count in skipped.items())
    if repeated:
        notes += (f"{repeated} photos were labeled more than once: the last annotation counts",)
    classes, table = names.sorted()
    values = {name: int(table[index]) for name, index in names.index.items()}
    images = [
        Labeled(photo, partial(_paint, path, regions, values), empty=not regions) for path, photo, regions in found
    ]
    return Labels(
        "Label Studio", classes, images, notes=notes, no_photos=frozenset(p for m in pngs.values() for p in m)
    )


def _image(task: dict[str, Any]) -> str:
    """The URL of the photo of a task; empty if there is none."""
    data = task.get("data") if isinstance(task.get("data"), dict) else task
    assert isinstance(data, dict)
    texts = [value for value in data.values() if isinstance(value, str)]
    return next((t for t in texts if Path(_address(t)).suffix.lower() in IMAGE_SUFFIXES), "")


def _address(text: str) -> str:
    """The path of a URL without its query, or the path in the ``?d=`` query of a local-file URL."""
    return unquote(text).replace("\\", "/").split("?d=")[-1].split("?")[0]


def _photo(source: Source, task: dict[str, Any], path: Path) -> Path | None:
    """Find the photo by the last part of its URL, with and without the prefix that an upload adds."""
    name = PurePosixPath(_address(_image(task))).name
    found = source.photos.find(PurePosixPath(name), path)
    return found or source.photos.find(PurePosixPath(_UPLOAD.sub("", name)), path)


def _regions(task: dict[str, Any], path: Path) -> tuple[list[Any] | None, bool]:
    """The regions of the last annotation (None if the task is not labeled), and whether there were others."""
    if "annotations" not in task:  # JSON-MIN: one list of regions per control
        lists = [v for v in task.values() if isinstance(v, list) and v and isinstance(v[0], dict)]
        regions = [r for regions in lists for r in regions if "original_width" in r]
        return regions or None, False
    try:
        done = [a["result"] for a in task["annotations"] if not a.get("was_cancelled")]
    except (KeyError, TypeError, AttributeError):
        raise InputError(f"{path}: annotations of {_image(task)!r} without result; export it again") from None
    if done and not all(isinstance(r, dict) and isinstance(r.get("value", r), dict) for r in done[-1]):
        raise InputError(f"{path}: a region of {_image(task)!r} has no value; export it again")
    return (done[-1] if done else None), len(done) > 1


def _label(region: Any) -> str | None:
    """The class of a region or of a PNG file; None for regions without area."""
    if isinstance(region, Path):
        return PNG_NAME.search(region.stem)[3]  # type: ignore[index]
    value = region.get("value", region)
    labels = next((value[kind] for kind in _KINDS if value.get(kind)), None)
    return str(labels[0]) if isinstance(labels, list) else None


def _number(path: Path) -> tuple[int, int]:
    match = PNG_NAME.search(path.stem)
    assert match is not None
    return int(match[2]), int(match[4])


def _paint(path: Path, regions: list[Any], values: dict[str, int], size: Size) -> np.ndarray:
    mask = blank(size)
    for region in regions:
        name = str(_label(region)).strip()
        if isinstance(region, Path):
            painted = read_index_mask(region)
            expect_size(region, painted.shape, size)
            mask[painted > 0] = values[name]
            continue
        expect_size(path, (region.get("original_height"), region.get("original_width")), size)
        value = region.get("value", region)
        try:
            if value.get("brushlabels"):
                mask[decode_brush(value["rle"], *size)] = values[name]
                continue
            corners = value["points"] if value.get("polygonlabels") else _rectangle(value, size)
            outline = [float(v) * s / 100 for x, y in corners for v, s in ((x, size[1]), (y, size[0]))]
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(f"{path}: malformed region of '{name}' ({type(error).__name__}: {error})") from None
        paint_outline(mask, [outline], values[name], f"{path}: '{name}'")
    return mask


def _rectangle(value: dict[str, Any], size: Size) -> list[tuple[float, float]]:
    """Corners in percent of the image. The rectangle is rotated around its first corner, in pixels."""
    height, width = size
    left, top = value["x"] * width / 100, value["y"] * height / 100
    w, h = value["width"] * width / 100, value["height"] * height / 100
    angle = math.radians(value.get("rotation") or 0)
    cos, sin = math.cos(angle), math.sin(angle)
    corners = ((0.0, 0.0), (w, 0.0), (w, h), (0.0, h))
    return [(100 * (left + x * cos - y * sin) / width, 100 * (top + x * sin + y * cos) / height) for x, y in corners]
