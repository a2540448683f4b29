"""YOLO segmentation: one text file per photo, one line per object: class index, then corners relative to the image."""

from __future__ import annotations

from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import yaml

from semiseg.data.labels.base import BLANK, Labeled, Labels, Names, Size, Source, blank, paint_outline
from semiseg.data.labels.photos import missing_photos
from semiseg.data.readers.listing import file_is_there
from semiseg.errors import InputError

CLASS_LISTS = ("classes.txt", "obj.names", "labels.txt")
"""Files with one class name per line; `data.yaml` takes precedence."""

_FOLDERS = ("labels", "obj_train_data")  # of label files; photos have the same path below images/


def class_list(source: Source) -> Path | None:
    """The file of class names: `data.yaml` or another YAML file with ``names``, else a file of `CLASS_LISTS`."""
    for path in source.with_suffix(".yaml", ".yml"):
        if isinstance(_yaml(path), dict) and "names" in _yaml(path):
            return path
    return next((path for path in source.files if path.name in CLASS_LISTS), None)


def label_files(source: Source) -> list[Path]:
    """Text files whose first line looks like an object, and those next to them that are empty or named like a photo.

    A folder of class names and of files named like photos is one of YOLO even if none of its files is well-formed.
    """
    files = [p for p in source.with_suffix(".txt") if p.name not in CLASS_LISTS]
    right = {path for path in files if _looks_right(path)}
    folders = {path.parent for path in right}
    if len(right) < len(files) and class_list(source) is not None:
        folders |= {path.parent for path in files if set(path.relative_to(source.root).parts[:-1]) & set(_FOLDERS)}
    return [
        path
        for path in files
        if path in right or (path.parent in folders and (path.stat().st_size == 0 or _photo(source, path) is not None))
    ]


def read(source: Source) -> Labels:
    """Read all label files; an empty file means a photo without objects."""
    names_file = class_list(source)
    if names_file is None:
        raise InputError(f"{source.root}: no class names for the YOLO labels; put data.yaml or classes.txt there")
    classes = _classes(names_file)
    images, missing, boxes = [], [], 0
    for path in label_files(source):
        photo = _photo(source, path)
        if photo is None:
            missing.append(path.relative_to(source.root).with_suffix(""))
            continue
        objects = _objects(path, len(classes), names_file)
        boxes += sum(len(corners) == 4 for _, corners in objects)
        images.append(Labeled(photo, partial(_paint, path, objects), empty=not objects))
    notes = missing_photos(missing, len(images), source.root)
    if boxes:
        notes += (f"{boxes} objects have a box but no outline: skipped",)
    return Labels("YOLO text files", classes, images, notes=notes)


def _photo(source: Source, path: Path) -> Path | None:
    relative = path.relative_to(source.root).with_suffix("")
    return source.photos.find(PurePosixPath(*(p for p in relative.parts if p not in _FOLDERS)), path)


def _paint(path: Path, objects: list[tuple[int, np.ndarray]], size: Size) -> np.ndarray:
    mask = blank(size)
    for value, corners in objects:
        if len(corners) > 4:
            scaled = corners.reshape(-1, 2) * (size[1], size[0])
            paint_outline(mask, [scaled.ravel().tolist()], value, str(path))
    return mask


def _objects(path: Path, n_classes: int, names_file: Path) -> list[tuple[int, np.ndarray]]:
    """Class and corners [x0, y0, x1, y1, ...] of each line; four numbers are a box."""
    objects = []
    for number, line in enumerate(_text(path).splitlines(), 1):
        if not line.strip():
            continue
        try:
            value, corners = int(line.split()[0]), np.array(line.split()[1:], np.float64)
        except ValueError:
            raise InputError(
                f"{path}, line {number}: expected a class index and corners, found {line[:40]!r}"
            ) from None
        if not 0 <= value < n_classes:
            raise InputError(f"{path}, line {number}: class {value}; {names_file} names 0..{n_classes - 1}")
        if len(corners) < 4 or len(corners) % 2 or not (np.abs(corners) <= 2).all():
            raise InputError(f"{path}, line {number}: expected pairs of numbers from 0 to 1, found {line[:40]!r}")
        objects.append((value, corners))
    return objects


def _classes(path: Path) -> tuple[str, ...]:
    if path.suffix.lower() in (".yaml", ".yml"):
        given = _yaml(path)["names"]
        if isinstance(given, dict):
            if sorted(given) != list(range(len(given))):
                raise InputError(f"{path}: names has the keys {sorted(given, key=str)}; expected 0, 1, 2, ...")
            given = [given[number] for number in range(len(given))]
    else:
        given = [line for line in _text(path).splitlines() if line.strip()]
    names = Names()
    if not isinstance(given, list) or not given:
        raise InputError(f"{path}: expected a list of class names under `names`")
    for name in given:
        names(str(name), path)
    if len(names.index) < len(given) or len(given) > BLANK - 1:
        raise InputError(f"{path}: a class name is given twice; each class needs its own")
    return tuple(names.index)


def _looks_right(path: Path) -> bool:
    """Whether the first line is a class index followed by at least four numbers."""
    try:
        with path.open("rb") as file:
            words = file.readline(65536).split()
        return len(words) >= 5 and int(words[0]) >= 0 and all(np.isfinite(float(w)) for w in words[1:5])
    except (ValueError, OSError):
        return False


def _text(path: Path) -> str:
    file_is_there(path)
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read as text ({error})") from None


def _yaml(path: Path) -> Any:
    try:
        return yaml.safe_load(_text(path))
    except (yaml.YAMLError, RecursionError) as error:
        raise InputError(f"{path}: not a YAML file ({' '.join(str(error).split())})") from None
