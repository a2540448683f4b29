"""CVAT "segmentation mask" exports: color PNG files in SegmentationClass/, and labelmap.txt with the colors."""

from __future__ import annotations

from functools import partial
from pathlib import Path, PurePosixPath

import numpy as np

from semiseg.data.batch import IGNORE
from semiseg.data.datasets.class_file import ClassFile, Color
from semiseg.data.datasets.folder_masks import MaskReader
from semiseg.data.labels.base import BLANK, Labeled, Labels, Names, Size, Source, expect_size
from semiseg.data.labels.photos import missing_photos
from semiseg.data.labels.unknown_colors import describe_unknown
from semiseg.data.readers.listing import IMAGE_SUFFIXES, file_is_there
from semiseg.errors import InputError

FOLDER, LABEL_MAP = "SegmentationClass", "labelmap.txt"
NOT_PHOTOS = (FOLDER, "SegmentationObject")

_BACKGROUND = "background"  # CVAT's own entry for unpainted pixels


def label_map(source: Source) -> Path | None:
    """The file that defines the colors."""
    return next((path for path in source.files if path.name == LABEL_MAP), None)


def read(source: Source) -> Labels:
    """Read the masks of an unpacked archive. The photos are in it too, or in ``images=``."""
    path = label_map(source)
    if path is None:
        raise InputError(f"{source.root}: no {LABEL_MAP}, which defines the colors; export again, with colors")
    classes = _class_file(path)
    masks = [p for p in source.files if FOLDER in p.parts and p.suffix.lower() in IMAGE_SUFFIXES]
    others = frozenset(p for p in source.files if set(p.parts) & set(NOT_PHOTOS))
    photos = source.photos.without(others)
    reader = MaskReader(classes, "auto", masks)
    kept = [name for name in classes.names if name.lower() != _BACKGROUND]
    table = np.full(256, BLANK, np.uint8)
    table[IGNORE] = IGNORE
    for value, name in enumerate(classes.names):
        table[value] = kept.index(name) if name in kept else BLANK
    images, missing = [], []
    for mask in masks:
        below = mask.parts[mask.parts.index(FOLDER) + 1 :]
        photo = photos.find(PurePosixPath(*below), mask)
        if photo is None:
            missing.append(mask.name)
        else:
            images.append(Labeled(photo, partial(_paint, mask, reader, masks, table)))
    notes = missing_photos(missing, len(images), source.root)
    colors = tuple(c for name, c in zip(classes.names, classes.colors) if name in kept)
    return Labels("CVAT segmentation mask", tuple(kept), images, colors=colors, no_photos=others, notes=notes)


def _paint(path: Path, reader: MaskReader, masks: list[Path], table: np.ndarray, size: Size) -> np.ndarray:
    return table[read_mask(path, reader, masks, size)]


def read_mask(path: Path, reader: MaskReader, masks: list[Path], size: Size) -> np.ndarray:
    """Read a mask with its class file; if a color is unknown, the error lists all unknown colors of the masks."""
    try:
        mask = reader.read(path)
    except InputError as error:
        together = describe_unknown(masks, reader.class_file, path.parent) if "color (" in str(error) else None
        raise (InputError(together) if together else error) from None
    expect_size(path, mask.shape, size)
    return mask


def _class_file(path: Path) -> ClassFile:
    """Parse lines of the form `name:r,g,b:parts:actions`; lines that start with `#` are comments."""
    names, colors = Names(), list[Color]()
    file_is_there(path)
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read as text ({error})") from None
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        try:
            name, color, *_ = line.rsplit(":", 3)
            red, green, blue = (int(v) for v in color.split(","))
            if not all(0 <= v <= 255 for v in (red, green, blue)):
                raise ValueError
        except ValueError:
            raise InputError(f"{path}, line {number}: expected name:red,green,blue::, found {line[:60]!r}") from None
        if names(name, path) != len(colors) or (red, green, blue) in colors:
            raise InputError(f"{path}, line {number}: a name or color is given twice; each class needs its own")
        colors.append((red, green, blue))
    if not colors:
        raise InputError(f"{path}: no classes in it")
    return ClassFile(path, tuple(names.index), tuple(colors), (False,) * len(colors))
