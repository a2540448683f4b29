"""The class file of custom data: class names, colors, and ignored entries."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from semiseg.data.batch import IGNORE
from semiseg.data.readers.listing import file_is_there
from semiseg.errors import InputError, suggest

Color = tuple[int, int, int]

UNKNOWN = 254  # in lookup tables: no class has this value or color
_HEX = re.compile(r"#?[0-9a-fA-F]{6}")
_KEYS = ("name", "color", "ignore")


def default_palette(count: int) -> list[Color]:
    """Colors of the Pascal VOC rule: bits 0, 1, 2 of the index are the top bits of R, G, B, and so on."""

    def channel(index: int, offset: int) -> int:
        return sum((index >> (3 * level + offset) & 1) << (7 - level) for level in range(8))

    return [(channel(i, 0), channel(i, 1), channel(i, 2)) for i in range(count)]


_READABLE = (
    (0, 0, 0), (230, 159, 0), (86, 180, 233), (0, 158, 115),
    (240, 228, 66), (0, 114, 178), (213, 94, 0), (204, 121, 167),
)  # fmt: skip


def readable_palette(count: int) -> list[Color]:
    """Colors that color-blind people can tell apart: eight, then darker and lighter shades of seven of them.

    Beyond 22 classes, those of the VOC rule follow.

    Source: Okabe and Ito 2008, Color Universal Design; the further shades are ours.
    """
    darker = [_toward(color, 0, 0.5) for color in _READABLE[1:]]
    lighter = [_toward(color, 255, 0.6) for color in _READABLE[1:]]
    colors = [*_READABLE, *darker, *lighter]
    return [*colors, *(c for c in default_palette(count + len(colors)) if c not in colors)][:count]


def _toward(color: Color, end: int, share: float) -> Color:
    red, green, blue = (round(value + share * (end - value)) for value in color)
    return red, green, blue


@dataclass(frozen=True)
class ClassFile:
    """The entries of a class file, in order.

    Entry i corresponds to value i of an index mask. Entries with ``ignore`` are not classes: their pixels become
    255, and the indices of later classes move down by one.
    """

    path: Path
    names: tuple[str, ...]
    colors: tuple[Color | None, ...]
    ignored: tuple[bool, ...]

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes, without the ignored entries."""
        return tuple(name for name, ignored in zip(self.names, self.ignored) if not ignored)

    @property
    def palette(self) -> tuple[Color, ...]:
        """One color per class: from the file, otherwise from `readable_palette`."""
        drawn = zip(self.colors, self.ignored, readable_palette(len(self.names)))
        return tuple(color or default for color, ignored, default in drawn if not ignored)

    @cached_property
    def labels(self) -> np.ndarray:
        """(entries,) uint8: class index of each entry, or 255."""
        ignored = np.array(self.ignored)
        return np.where(ignored, IGNORE, np.cumsum(~ignored) - 1).astype(np.uint8)

    @cached_property
    def by_index(self) -> np.ndarray:
        """(256,) uint8: class index, 255 or `UNKNOWN` for each value of an index mask; 255 stays ignored."""
        table = np.full(256, UNKNOWN, np.uint8)
        table[: len(self.labels)] = self.labels
        table[IGNORE] = IGNORE
        return table

    @cached_property
    def by_color(self) -> np.ndarray:
        """(2^24,) uint8: class index, 255 or `UNKNOWN` for each color, packed as 0xRRGGBB.

        Raises:
            InputError: if an entry has no color.
        """
        missing = [name for name, color in zip(self.names, self.colors) if color is None]
        if missing:
            raise InputError(
                f"{self.path}: class '{missing[0]}' has no color, but masks are color images; add `color: [r, g, b]`"
            )
        table = np.full(1 << 24, UNKNOWN, np.uint8)
        table[[(r << 16) | (g << 8) | b for r, g, b in filter(None, self.colors)]] = self.labels
        return table

    @classmethod
    def plain(cls, names: Sequence[str]) -> ClassFile:
        """These classes, without colors and ignored entries."""
        return cls(Path("classes.yaml"), tuple(names), (None,) * len(names), (False,) * len(names))

    def with_colors(self, colors: Sequence[Color | None]) -> ClassFile:
        """The same entries with other colors of the classes; ignored entries keep theirs."""
        rest = iter(colors)
        return replace(self, colors=tuple(c if i else next(rest) for c, i in zip(self.colors, self.ignored)))

    def stored(self, mask: np.ndarray) -> np.ndarray:
        """Class indices to values of an index mask for this file: positions that count the ignored entries too."""
        table = np.arange(256, dtype=np.uint8)
        table[: len(self.classes)] = np.flatnonzero(~np.array(self.ignored))
        return table[mask]

    def text(self) -> str:
        """The file, as YAML."""
        entries = [
            {"name": name} | ({"color": list(color)} if color else {}) | ({"ignore": True} if ignored else {})
            for name, color, ignored in zip(self.names, self.colors, self.ignored)
        ]
        listed: str = yaml.safe_dump(entries, sort_keys=False, default_flow_style=None, allow_unicode=True, width=120)
        return listed


def without_classes(root: Path, classes: Path) -> str:
    """What to do in a folder that has no class file, and no files of a labeling tool."""
    if (root / "masks").is_dir():
        return (
            f"{classes}: no such class file; write a list of `- name: ...`, in the order of the mask values, or let "
            "`semiseg data import` write it into a copy of the folder"
        )
    return (
        f"{root}: no labels found: neither masks/ and {classes.name}, nor files of a labeling tool; label some of the "
        "photos, for example with labelme, then `semiseg data import`"
    )


def read_class_file(path: Path) -> ClassFile:
    """Read a YAML list of names, or of mappings with ``name`` and optional ``color`` and ``ignore``.

    A color is [r, g, b] or "#rrggbb".

    Raises:
        InputError: naming file and entry, for anything else.
    """
    if not file_is_there(path):
        raise InputError(f"{path}: no such class file; write a list of `- name: ...`, in the order of the mask values")
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: not a YAML file ({' '.join(str(error).split())})") from error
    if not isinstance(content, Sequence) or isinstance(content, str) or not content:
        raise InputError(f"{path}: expected a list of classes, each `- name: ...` with optional color and ignore")
    if len(content) > UNKNOWN:
        raise InputError(f"{path}: {len(content)} classes; at most {UNKNOWN} are possible")
    entries = [_entry(item, f"{path}, entry {number}") for number, item in enumerate(content)]
    names, colors, ignored = zip(*entries)
    for values, what in ((names, "name"), ([c for c in colors if c], "color")):
        repeated = sorted({str(value) for value in values if values.count(value) > 1})
        if repeated:
            raise InputError(f"{path}: {what} {repeated[0]} is given twice; each class needs its own")
    if all(ignored):
        raise InputError(f"{path}: every class is ignored; at least one class must remain")
    return ClassFile(path, names, colors, ignored)


def _entry(item: Any, where: str) -> tuple[str, Color | None, bool]:
    fields = item if isinstance(item, Mapping) else {"name": item}
    unknown = sorted(str(key) for key in fields if key not in _KEYS)
    if unknown:
        raise InputError(f"{where}: unknown key '{unknown[0]}': {suggest(unknown[0], _KEYS)}")
    name, color, ignore = fields.get("name"), fields.get("color"), fields.get("ignore", False)
    if not isinstance(name, str) or not name.strip():
        raise InputError(f'{where}: expected a name, found {name!r} (quote names such as "no" and "1")')
    if not isinstance(ignore, bool):
        raise InputError(f"{where}: ignore is {ignore!r}; expected true or false")
    if color is None:
        if "color" in fields:  # an unquoted # starts a comment in YAML
            raise InputError(f'{where}: color is empty; write [r, g, b], or a hex color in quotes: "#804080"')
        return name, None, ignore
    if isinstance(color, str) and _HEX.fullmatch(color):
        color = list(bytes.fromhex(color.removeprefix("#")))
    whole = isinstance(color, Sequence) and len(color) == 3 and all(type(v) is int for v in color)
    if not whole or not all(0 <= v <= 255 for v in color):
        raise InputError(f'{where}: color is {color!r}; expected [red, green, blue], each 0..255, or "#rrggbb"')
    return name, (color[0], color[1], color[2]), ignore
