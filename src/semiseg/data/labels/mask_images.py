"""Masks as image files: indices, palettes, colors, or black and white; with or without a class file."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np

from semiseg.data.batch import IGNORE
from semiseg.data.datasets.class_file import ClassFile, Color
from semiseg.data.datasets.folder_masks import MaskFormat, MaskReader, has_gray_ramp, is_gray, palette_of
from semiseg.data.labels.base import BLANK, Labeled, Labels, Size, Source, blank, expect_size
from semiseg.data.labels.cvat_masks import read_mask
from semiseg.data.labels.mask_files import MaskFiles, find_mask_files
from semiseg.data.labels.unknown_colors import count_colors
from semiseg.data.readers.masks import open_mask, read_index_mask
from semiseg.errors import InputError

MAX_COLORS = 64  # that become classes without a class file


def read(source: Source, class_file: ClassFile | None = None, mask_name: str | None = None) -> Labels:
    """Read masks next to the photos, in a folder of their own, or in one folder per class.

    Without a class file the classes are the values or colors found; rename them in the classes.yaml that is written.
    """
    files = find_mask_files(source, mask_name)
    if not files.pairs:
        raise InputError(
            f"{source.root}: no labels found: neither files of a known tool nor images named like the masks of "
            'others; set how masks are named: mask_name="{stem}_mask"'
        )
    if files.by_class:
        return _one_folder_a_class(files)
    masks = [mask for mask, *_ in files.pairs.values()]
    if class_file is None:
        class_file, rule, note = guess_classes(masks, source.root)
        notes = (*files.notes, note)
    else:
        rule, notes = "auto", files.notes
    reader = MaskReader(class_file, rule, masks)
    images = [Labeled(photo, partial(read_mask, mask, reader, masks)) for photo, (mask, *_) in files.pairs.items()]
    tool = {"index": "index masks", "color": "color masks", "binary": "black and white masks", "auto": "mask images"}
    return Labels(
        tool[rule],
        class_file.classes,
        images,
        colors=class_file.palette,
        no_photos=files.no_photos,
        notes=notes,
        may_be_blank=False,
    )


def guess_classes(masks: Sequence[Path], root: Path) -> tuple[ClassFile, MaskFormat, str]:
    """Classes from all values or colors of the masks, how to read these, and a note.

    Raises:
        InputError: for masks of several formats, or with too many colors.
    """
    kinds, values, colors = set(), np.zeros(256, np.int64), Counter[Color]()
    palette: dict[int, Color] = {}
    for path in masks:
        mask = open_mask(path)
        plain = is_gray(mask) or has_gray_ramp(mask)
        kinds.add("gray" if plain else "palette" if mask.mode == "P" else "color")
        if plain or mask.mode == "P":
            index = read_index_mask(path)
            values += np.bincount(index.ravel(), minlength=256)
            if not plain:
                palette.update(enumerate(palette_of(mask)))
        else:
            colors += count_colors(path)
        if len(colors) > MAX_COLORS:
            raise InputError(
                f"{root}: the masks have more than {MAX_COLORS} colors ({path}); write classes.yaml with the color of "
                "each class; if masks were saved as JPEG or resized, export them again as PNG"
            )
    if len(kinds) > 1:
        raise InputError(f"{root}: masks of several formats ({', '.join(sorted(kinds))}); write classes.yaml")
    path = root / "classes.yaml"
    if kinds == {"color"}:
        found = sorted(colors)
        names = tuple("color_{:02x}{:02x}{:02x}".format(*color) for color in found)
        return _classes(path, names, found), "color", f"{len(found)} colors became classes: name them in classes.yaml"
    used = [int(v) for v in np.flatnonzero(values)]
    if set(used) in ({0, IGNORE}, {IGNORE}) and kinds == {"gray"}:
        return _classes(path, ("background", "foreground"), (None, None)), "binary", "0 is background, 255 foreground"
    used = [v for v in used if v != IGNORE]
    if kinds == {"gray"} and len(used) <= (max(used, default=0) + 1) // 2:  # spread over the gray levels: not indices
        grays = [(v, v, v) for v in used]
        names = tuple(f"gray_{v}" for v in used)
        return (
            _classes(path, names, grays),
            "color",
            f"{len(used)} grays became classes: name them in classes.yaml",
        )
    count = max(used, default=0) + 1
    names = tuple(f"class_{v}" for v in range(count))
    by_index = [palette.get(v) if kinds == {"palette"} else None for v in range(count)]
    return _classes(path, names, by_index), "index", f"values 0..{count - 1} became classes: name them in classes.yaml"


def _classes(path: Path, names: Sequence[str], colors: Sequence[Color | None]) -> ClassFile:
    if len(names) >= BLANK:
        raise InputError(f"{path.parent}: {len(names)} classes; at most {BLANK - 1} are possible")
    unique = [color if list(colors).count(color) == 1 else None for color in colors]
    return ClassFile(path, tuple(names), tuple(unique), (False,) * len(names))


def _one_folder_a_class(files: MaskFiles) -> Labels:
    images = [
        Labeled(photo, partial(_paint_classes, dict(zip(files.class_of(photo), masks)), files.by_class))
        for photo, masks in files.pairs.items()
    ]
    note = f"where classes overlap, the later of {', '.join(files.by_class)} wins"
    return Labels("one folder per class", files.by_class, images, no_photos=files.no_photos, notes=(*files.notes, note))


def _paint_classes(masks: dict[str, Path], classes: Sequence[str], size: Size) -> np.ndarray:
    """Paint each class where its own mask is not 0, in class order."""
    painted = blank(size)
    for name, path in sorted(masks.items()):
        inside = np.asarray(open_mask(path).convert("L")) > 0
        expect_size(path, inside.shape, size)
        painted[inside] = classes.index(name)
    return painted
