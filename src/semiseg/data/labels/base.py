"""What every label reader returns: photos, how to paint their masks, and class names."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from pydantic import BaseModel, ValidationError

from semiseg.data.datasets.class_file import Color
from semiseg.data.labels.photos import Photos
from semiseg.data.readers.listing import file_is_there, find_files, find_images, printable
from semiseg.data.readers.outlines import decode
from semiseg.errors import InputError

BLANK = 254
"""Value of unpainted pixels."""

Size = tuple[int, int]
"""Height, width."""

Model = TypeVar("Model", bound=BaseModel)


@dataclass(frozen=True)
class Labeled:
    """One labeled photo.

    Attributes:
        photo: its file.
        paint: returns its mask, (H, W) uint8, given the displayed size of the photo: class index, 255 for ignored, or
            `BLANK`. Raises InputError naming the label file.
        empty: whether its label file has no object in it.
    """

    photo: Path
    paint: Callable[[Size], np.ndarray]
    empty: bool = False


@dataclass(frozen=True)
class Labels:
    """All labels of a source.

    Attributes:
        tool: the tool or format they were read as.
        classes: names in the order of their indices.
        colors: the color of each class; None where the tool defines none.
        images: the labeled photos.
        no_photos: images that are labels themselves.
        notes: one line per item that was skipped or guessed.
        may_be_blank: whether masks may contain unpainted pixels.
    """

    tool: str
    classes: tuple[str, ...]
    images: Sequence[Labeled]
    colors: tuple[Color | None, ...] = ()
    no_photos: frozenset[Path] = frozenset()
    notes: tuple[str, ...] = ()
    may_be_blank: bool = True

    def remarks(self, blank_is_ignored: bool) -> tuple[str, ...]:
        """``notes``, and what may be a mistake: photos without objects, names that differ only in case."""
        said = list(self.notes)
        if empty := sum(image.empty for image in self.images):
            said.append(
                f"{empty} labeled images contain no object: "
                + (
                    "unlabeled"
                    if blank_is_ignored
                    else "all background; if nobody has labeled them yet, import with "
                    + "blank=ignore, or train with data.blank=unlabeled"
                )
            )
        for name in self.classes:
            if twins := [other for other in self.classes if other != name and other.casefold() == name.casefold()]:
                said.append(f"the class '{name}' differs from '{twins[0]}' only in case; are they the same?")
                break
        return tuple(said)


@dataclass
class Source:
    """A folder of labels as a tool wrote them. Nothing in it is changed.

    Attributes:
        root: the folder.
        image_root: folder of the photos; ``root`` unless they are kept elsewhere.
        only: read only this label file.
    """

    root: Path
    image_root: Path
    only: Path | None = None
    _json: dict[Path, Any] = field(default_factory=dict)

    @cached_property
    def files(self) -> list[Path]:
        """All files below ``root``, or just ``only``."""
        return [self.only] if self.only else find_files(self.root)

    @cached_property
    def photos(self) -> Photos:
        """All images below ``image_root``, including images that are labels."""
        return Photos(self.image_root, find_images(self.image_root))

    def with_suffix(self, *suffixes: str) -> list[Path]:
        """Files with one of the suffixes, which are given in lower case."""
        return [path for path in self.files if path.suffix.lower() in suffixes]

    def json(self, path: Path) -> Any:
        """The content of a JSON file, read once. Raises InputError if it is not valid JSON."""
        if path not in self._json:
            file_is_there(path)
            try:
                content = json.loads(path.read_bytes())
            except OSError as error:
                raise InputError(f"{printable(path)}: cannot be read ({error.strerror})") from None
            except (ValueError, RecursionError) as error:
                raise InputError(f"{printable(path)}: not a JSON file ({error}); export it again") from None
            if isinstance(content, dict):
                content.pop("imageData", None)  # labelme's copy of the photo would fill the memory
            self._json[path] = content
        return self._json[path]

    def parse(self, path: Path, model: type[Model], what: str, content: Any = None) -> Model:
        """Validate a JSON file against ``model``. Raises InputError naming the file and the invalid field."""
        try:
            return model.model_validate(self.json(path) if content is None else content)
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(map(str, first["loc"])) or "the file"
            raise InputError(f"{path}: not {what}: {place}: {first['msg']}; export it again") from None


class Names:
    """Class names, numbered in order of first appearance."""

    def __init__(self, names: Sequence[str] = ()):
        self.index = {name: position for position, name in enumerate(dict.fromkeys(names))}

    def __call__(self, name: str, path: Path) -> int:
        """The index of a name, assigned on first use. Raises InputError for an invalid name."""
        name = name.strip()
        if not name or not name.isprintable():
            raise InputError(f"{path}: {name!r} is not a class name")
        index = self.index.setdefault(name, len(self.index))
        if index >= BLANK:
            raise InputError(f"{path}: more than {BLANK} class names; is this field really the class?")
        return index

    def sorted(self) -> tuple[tuple[str, ...], np.ndarray]:
        """The names in alphabetical order, and (256,) uint8: the new index of each mask value."""
        names = tuple(sorted(self.index))
        table = np.arange(256, dtype=np.uint8)
        for new, name in enumerate(names):
            table[self.index[name]] = new
        return names, table


def blank(size: Size) -> np.ndarray:
    """(H, W) uint8 mask with nothing painted."""
    return np.full(size, BLANK, np.uint8)


def paint_outline(mask: np.ndarray, outline: Any, value: int, where: str) -> None:
    """Set ``value`` inside an outline, see `decode`. Raises InputError starting with ``where`` if it is malformed."""
    try:
        mask[decode(outline, *mask.shape)] = value
    except Exception as error:  # pycocotools raises plain Exception, TypeError, ValueError, ...
        raise InputError(f"{where}: malformed outline ({error})") from None


def expect_size(path: Path, claimed: Sequence[int | None], size: Size) -> None:
    """Raise InputError if a label file claims another (height, width) than the photo has; None: not stated."""
    height, width = claimed
    if height is None or width is None or (height, width) == size:
        return
    rotated = " (rotated: the tool did not apply the EXIF orientation)" if (width, height) == size else ""
    raise InputError(
        f"{path}: labels for {width} x {height} pixels, but the photo has {size[1]} x {size[0]}{rotated}; label the "
        "photo as it is, or provide the photo that was labeled"
    )
