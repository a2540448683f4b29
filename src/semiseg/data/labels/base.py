"""What every reader of labels gives: photos, how their masks are painted, and class names."""

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
from semiseg.data.readers.listing import find_files, find_images, printable
from semiseg.data.readers.outlines import decode
from semiseg.errors import InputError

BLANK = 254
"""Value of pixels that nobody painted."""

Size = tuple[int, int]
"""Height, width."""

Model = TypeVar("Model", bound=BaseModel)


@dataclass(frozen=True)
class Labeled:
    """One labeled photo.

    Attributes:
        photo: its file.
        paint: its mask, (H, W) uint8, from the size of the photo as it is displayed: index of a class, 255 for
            ignored, or `BLANK`. Raises InputError that names the label file.
    """

    photo: Path
    paint: Callable[[Size], np.ndarray]


@dataclass(frozen=True)
class Labels:
    """All labels of a source.

    Attributes:
        tool: what they were read as.
        classes: names in the order of their indices.
        colors: the color of each class; None where the tool has none.
        images: the labeled photos.
        no_photos: images that are labels themselves.
        notes: one line for each thing that was left out or guessed.
        may_be_blank: whether pixels may be left that nobody painted.
    """

    tool: str
    classes: tuple[str, ...]
    images: Sequence[Labeled]
    colors: tuple[Color | None, ...] = ()
    no_photos: frozenset[Path] = frozenset()
    notes: tuple[str, ...] = ()
    may_be_blank: bool = True


@dataclass
class Source:
    """A folder with labels as a tool wrote them. Nothing in it is changed.

    Attributes:
        root: the folder.
        image_root: where the photos lie; ``root`` unless they lie elsewhere.
        only: read this label file and no other.
    """

    root: Path
    image_root: Path
    only: Path | None = None
    _json: dict[Path, Any] = field(default_factory=dict)

    @cached_property
    def files(self) -> list[Path]:
        """All files below ``root``, or the one that was named."""
        return [self.only] if self.only else find_files(self.root)

    @cached_property
    def photos(self) -> Photos:
        """All images below ``image_root``; labels among them are not told apart yet."""
        return Photos(self.image_root, find_images(self.image_root))

    def with_suffix(self, *suffixes: str) -> list[Path]:
        """Those of `files` with one of the suffixes, in lower case."""
        return [path for path in self.files if path.suffix.lower() in suffixes]

    def json(self, path: Path) -> Any:
        """The content of a JSON file, read once. Raises InputError if it is none."""
        if path not in self._json:
            try:
                content = json.loads(path.read_bytes())
            except OSError as error:
                raise InputError(f"{printable(path)}: cannot be read ({error.strerror})") from None
            except (ValueError, RecursionError) as error:
                raise InputError(f"{printable(path)}: not a JSON file ({error}); export it again") from None
            if isinstance(content, dict):
                content.pop("imageData", None)  # labelme's copy of the photo, which would fill the memory
            self._json[path] = content
        return self._json[path]

    def parse(self, path: Path, model: type[Model], what: str, content: Any = None) -> Model:
        """A JSON file in the form of ``model``. Raises InputError that names the file and the wrong place in it."""
        try:
            return model.model_validate(self.json(path) if content is None else content)
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(map(str, first["loc"])) or "the file"
            raise InputError(f"{path}: not {what}: {place}: {first['msg']}; export it again") from None


class Names:
    """Class names, numbered in the order in which they were seen."""

    def __init__(self, names: Sequence[str] = ()):
        self.index = {name: position for position, name in enumerate(dict.fromkeys(names))}

    def __call__(self, name: str, path: Path) -> int:
        """The index of a name, a new one if it is new. Raises InputError for a name that cannot be one."""
        name = name.strip()
        if not name or not name.isprintable():
            raise InputError(f"{path}: {name!r} is not a class name")
        index = self.index.setdefault(name, len(self.index))
        if index >= BLANK:
            raise InputError(f"{path}: more than {BLANK} class names; is the right field the class?")
        return index

    def sorted(self) -> tuple[tuple[str, ...], np.ndarray]:
        """The names by alphabet, and (256,) uint8: the new index of every value of a mask."""
        names = tuple(sorted(self.index))
        table = np.arange(256, dtype=np.uint8)
        for new, name in enumerate(names):
            table[self.index[name]] = new
        return names, table


def blank(size: Size) -> np.ndarray:
    """(H, W) uint8, nothing painted."""
    return np.full(size, BLANK, np.uint8)


def paint_outline(mask: np.ndarray, outline: Any, value: int, where: str) -> None:
    """Set ``value`` inside an outline, see `decode`. Raises InputError starting with ``where`` if it is broken."""
    try:
        mask[decode(outline, *mask.shape)] = value
    except Exception as error:  # pycocotools raises plain Exception, TypeError, ValueError, ...
        raise InputError(f"{where}: an outline is broken ({error})") from None


def expect_size(path: Path, claimed: Sequence[int | None], size: Size) -> None:
    """Raise InputError if a label file was made for a photo of another (height, width); None: it does not say."""
    height, width = claimed
    if height is None or width is None or (height, width) == size:
        return
    turned = " (turned: the tool did not apply its EXIF orientation)" if (width, height) == size else ""
    raise InputError(
        f"{path}: labels for {width} x {height} pixels, the photo has {size[1]} x {size[0]}{turned}; label the photo "
        "as it is, or give the photo that was labeled"
    )
