"""Classes of imported labels: their order, their colors, and the fate of unpainted pixels."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np

from semiseg.data.batch import IGNORE
from semiseg.data.datasets.class_file import ClassFile, Color, default_palette, readable_palette
from semiseg.data.labels.base import BLANK, Labels
from semiseg.errors import InputError, suggest

Blank = Literal["background", "ignore"]

BACKGROUND = "background"


class Mapping:
    """Maps the masks that a reader paints to class indices.

    ``written`` is the class file to write; it keeps the ignored entries of ``class_file``, so that masks written for it
    fit that file too.

    Args:
        labels: the labels that were read.
        blank: the class of unpainted pixels, or "ignore".
        class_file: gives the order and colors of the classes; without it they are taken from the labels, with
            "background" first if masks may have unpainted pixels.

    Raises:
        InputError: for a label that is not in the class file.
    """

    def __init__(self, labels: Labels, blank: Blank, class_file: ClassFile | None = None):
        colors: Sequence[Color | None] = labels.colors or (None,) * len(labels.classes)
        self.names, self._table = list(labels.classes), np.arange(256, dtype=np.uint8)
        if class_file is not None:
            self._follow(labels, class_file)
            colors = class_file.palette
        background = next((n for n in self.names if n.lower() == BACKGROUND), None)
        if blank == "ignore":
            self._table[BLANK] = IGNORE
        elif background is not None:
            self._table[BLANK] = self.names.index(background)
        elif class_file is None and labels.may_be_blank:
            self.names, colors = [BACKGROUND, *self.names], [None, *colors]
            self._table[: len(labels.classes)] += 1
            self._table[BLANK] = 0
        self.blank_is_ignored = blank == "ignore"
        self._why_no_blank = class_file.path if class_file is not None else None
        entries = class_file or ClassFile.plain(self.names)
        self.colors = _distinct(colors, [c for c, ignored in zip(entries.colors, entries.ignored) if ignored and c])
        self.written = entries.with_colors(self.colors)

    def __call__(self, mask: np.ndarray, photo: Path) -> np.ndarray:
        """The mask to write. Raises InputError if it has unpainted pixels and there is no class for them."""
        mapped: np.ndarray = self._table[mask]
        if (mapped == BLANK).any():
            raise InputError(
                f"{photo}: unpainted pixels, but {self._why_no_blank} has no class 'background'; add "
                "`- {name: background}` there, or set blank=ignore"
            )
        return mapped

    def palette(self) -> list[int]:
        """Palette of the masks to write: the class colors, and a separate one for ignored pixels."""
        shown = [color or (0, 0, 0) for color in self.written.colors]
        ignored = next(c for c in ((224, 224, 192), (192, 224, 224), (224, 192, 224)) if c not in shown)
        table = [*shown, *[(0, 0, 0)] * (IGNORE - len(shown)), ignored]
        return [v for color in table for v in color]

    def _follow(self, labels: Labels, class_file: ClassFile) -> None:
        entries = dict(zip(class_file.names, class_file.labels))
        for index, name in enumerate(labels.classes):
            if name not in entries:
                raise InputError(f"{class_file.path}: no class for the label '{name}': {suggest(name, entries)}")
            self._table[index] = entries[name]
        self.names = list(class_file.classes)


def _distinct(colors: Sequence[Color | None], reserved: Sequence[Color] = ()) -> list[Color]:
    """Give every class a unique color that is not ``reserved``."""
    taken = {color for color in colors if color is not None} | set(reserved)
    free = iter([color for color in default_palette(256) if color not in taken])
    defaults = readable_palette(len(colors))
    chosen: list[Color] = []
    for color, default in zip(colors, defaults):
        pick = color or (default if default not in taken else next(c for c in free if c not in chosen))
        taken.add(pick)
        chosen.append(pick)
    return chosen
