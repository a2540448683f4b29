"""Masks of custom data: class indices, colors, or black and white; the format is detected."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image

from semiseg.data.batch import IGNORE
from semiseg.data.datasets.class_file import UNKNOWN, ClassFile, Color
from semiseg.data.readers.masks import open_mask, reject_labels, to_index
from semiseg.errors import InputError

MaskFormat = Literal["auto", "index", "color", "binary"]

_SAMPLED = 50  # gray masks


class MaskReader:
    """Reads mask files using a class file.

    With "auto", files with color channels are read by color, others by index, unless the colors of the class file
    indicate otherwise. A palette mask whose palette contradicts the class file is read by color if every color used is
    in the class file; otherwise it is rejected. Gray masks are read by color if every gray level used is a color in
    the class file and reading by index would give other classes (such as 0 and 255 for black and white classes). With
    two classes, gray masks that contain only 0 and 255 and are not explained by colors are rejected: 255 would be
    ignored, and only one class would remain.

    Args:
        class_file: names, colors and ignored entries.
        mask_format: "index", "color", "binary" (0 is the first of two entries, 1 or 255 the second), or "auto".
        masks: all mask files; "auto" opens up to 50 of them, evenly spaced.

    Raises:
        InputError: for "binary" with a class file that does not have two entries.
    """

    def __init__(self, class_file: ClassFile, mask_format: MaskFormat, masks: Sequence[Path]):
        if mask_format == "binary" and len(class_file.names) != 2:
            raise InputError(
                f"data.mask_format=binary: {class_file.path} has {len(class_file.names)} entries; expected two"
            )
        self.class_file, self.mask_format, self._masks = class_file, mask_format, masks

    def read(self, path: Path) -> np.ndarray:
        """(H, W) uint8: class index, or 255.

        Raises:
            InputError: naming the file, for a value or color that is not a class, or an inconsistent palette.
        """
        mask = open_mask(path)
        classes, rule = self.class_file, self._rule(mask, path)
        if rule == "color":
            colors = np.asarray(mask.convert("RGB"))
            labels = classes.by_color[(colors.astype(np.int32) << (16, 8, 0)).sum(2)]
            if mask.mode == "P":  # 255 is void, whatever its color
                labels[(labels == UNKNOWN) & (np.asarray(mask) == IGNORE)] = IGNORE
            reject_labels(path, labels == UNKNOWN, colors, f"expected a color of {classes.path}")
            return labels
        values = to_index(mask, path)
        labels = (self._binary if rule == "binary" else self._by_gray if rule == "gray" else classes.by_index)[values]
        expected = {
            "binary": "expected 0 and 255, or 0 and 1, with data.mask_format=binary",
            "gray": f"expected a gray color of {classes.path} (data.mask_format=index reads values as indices)",
            "index": f"expected one of the {len(classes.names)} entries of {classes.path}, or 255",
        }[rule]
        reject_labels(path, labels == UNKNOWN, values, expected)
        return labels

    def _rule(self, mask: Image.Image, path: Path) -> Literal["index", "color", "gray", "binary"]:
        if self.mask_format != "auto":
            return self.mask_format
        if not is_gray(mask) and mask.mode != "P":
            return "color"
        if is_gray(mask) or has_gray_ramp(mask):
            return self._gray_rule
        return self._palette_rule(mask, path)

    @cached_property
    def _colors(self) -> dict[Color, int]:
        """Entry of each color of the class file."""
        return {color: entry for entry, color in enumerate(self.class_file.colors) if color is not None}

    @cached_property
    def _by_gray(self) -> np.ndarray:
        """(256,) uint8: class index, 255 or `UNKNOWN` for each gray level."""
        table = np.full(256, UNKNOWN, np.uint8)
        for (red, green, blue), entry in self._colors.items():
            if red == green == blue:
                table[red] = self.class_file.labels[entry]
        return table

    @cached_property
    def _binary(self) -> np.ndarray:
        table = np.full(256, UNKNOWN, np.uint8)
        table[[0, 1, 255]] = self.class_file.labels[[0, 1, 1]]
        return table

    @cached_property
    def _gray_rule(self) -> Literal["index", "gray"]:
        """How gray masks are read; decided once for all, as a single mask may show too few values."""
        values = self._gray_values()
        by_index, by_gray = self.class_file.by_index[values], self._by_gray[values]
        if UNKNOWN not in by_gray and not np.array_equal(by_index, by_gray):
            return "gray"
        if len(self.class_file.names) == 2 and IGNORE in values and set(values) <= {0, IGNORE}:
            raise InputError(
                f"the masks of {self.class_file.path.parent} contain only 0 and 255, and 255 means ignored: set "
                "data.mask_format=binary if 255 is the second class, data.mask_format=index if it is not, or give the "
                f"classes of {self.class_file.path.name} the colors [0, 0, 0] and [255, 255, 255]"
            )
        return "index"

    def _gray_values(self) -> list[int]:
        values: set[int] = set()
        for path in self._masks[:: -(-len(self._masks) // _SAMPLED) or 1]:
            try:
                mask = open_mask(path)
                if is_gray(mask) or has_gray_ramp(mask):
                    values |= set(_used(to_index(mask, path)))
            except InputError:  # raised again when the mask is read
                continue
        return sorted(values)

    def _palette_rule(self, mask: Image.Image, path: Path) -> Literal["index", "color"]:
        if not self._colors:
            return "index"
        palette = palette_of(mask)
        used = {value: palette[value] for value in _used(np.asarray(mask))}
        wrong = next((value for value in used if self._contradicts(value, used[value])), None)
        if wrong is None:
            return "index"
        if all(color in self._colors or value == IGNORE for value, color in used.items()):
            return "color"
        entry = self.class_file.names[wrong] if wrong < len(self.class_file.names) else "no class"
        raise InputError(
            f"{path}: its palette contradicts {self.class_file.path}: value {wrong} has the color {used[wrong]}, which "
            f"is not that of '{entry}', and not every color used belongs to a class; set data.mask_format=index to "
            "read by value, or data.mask_format=color to read by color"
        )

    def _contradicts(self, value: int, color: Color) -> bool:
        """Whether the class file gives this value another color, or this color another value."""
        if color in self._colors:
            return self._colors[color] != value
        return value < len(self.class_file.colors) and self.class_file.colors[value] is not None


def is_gray(mask: Image.Image) -> bool:
    """Whether a mask has one channel and no palette."""
    return mask.mode in ("1", "L", "F") or mask.mode.startswith("I")


def palette_of(mask: Image.Image) -> list[Color]:
    """The 256 colors of a palette image; undefined ones are black."""
    flat = mask.getpalette("RGB") or []
    colors = [(flat[k], flat[k + 1], flat[k + 2]) for k in range(0, len(flat) - 2, 3)]
    return colors + [(0, 0, 0)] * (256 - len(colors))


def has_gray_ramp(mask: Image.Image) -> bool:
    """Whether a palette is just a gray ramp, as written by programs without class colors."""
    if mask.mode != "P":
        return False
    palette = palette_of(mask)
    return all(palette[value] == (value, value, value) for value in _used(np.asarray(mask)))


def _used(values: np.ndarray) -> list[int]:
    return np.flatnonzero(np.bincount(values.ravel(), minlength=256)).tolist()
