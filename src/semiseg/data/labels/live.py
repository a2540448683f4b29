"""Labels read directly in a tool's format, instead of once by ``semiseg data import``."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import cast

import numpy as np

from semiseg.data.datasets.class_file import ClassFile
from semiseg.data.labels.base import Labeled, Source
from semiseg.data.labels.classes import Blank, Mapping
from semiseg.data.labels.detect import Format, detect, read_labels
from semiseg.data.labels.importing import displayed_size, name_photos
from semiseg.data.readers.listing import several
from semiseg.errors import InputError


class LiveLabels:
    """Photos and labels of a folder, with the same ids, classes and masks as after an import.

    Args:
        root: the folder.
        format: format of the labels; "auto": detected.
        blank: the class of unpainted pixels, or "ignore".
        class_file: defines order, names and colors of the classes.

    Attributes:
        images, labeled: photos by id, all and the labeled ones.
        classes, palette: names, and colors 0..255.
        variant: the tool, and a hash of the sizes of the label files.

    Raises:
        InputError: naming the file, if labels cannot be read or there are none.
    """

    def __init__(self, root: Path, format: Format, blank: Blank, class_file: ClassFile | None = None) -> None:
        source = Source(root, root)
        labels = read_labels(source, format, class_file=class_file)
        photos = [path for path in source.photos.files if path not in labels.no_photos]
        ids = name_photos(photos, root)
        by_photo = {image.photo: image for image in labels.images}
        if len(by_photo) < len(labels.images):
            seen = [image.photo for image in labels.images]
            raise InputError(
                f"labeled twice: {several(sorted({p for p in seen if seen.count(p) > 1}))}; keep one label"
            )
        self._mapping = Mapping(labels, blank, class_file)
        ignored = self._mapping.blank_is_ignored
        self.tool, self.notes = labels.tool, labels.remarks(ignored)
        self.images = {image_id: photo for photo, image_id in ids.items()}
        self.labeled: dict[str, Labeled] = {
            i: by_photo[p] for p, i in ids.items() if p in by_photo and not (ignored and by_photo[p].empty)
        }
        self.classes, self.palette = tuple(self._mapping.names), tuple(self._mapping.colors)
        taken = set(photos)
        sizes = [f"{p.relative_to(root)} {p.stat().st_size}" for p in sorted(source.files) if p not in taken]
        digest = hashlib.sha256("\n".join(sizes).encode("utf-8", "surrogateescape")).hexdigest()
        self.variant = f"labels of {labels.tool}, {digest[:8]}"

    def mask(self, image_id: str) -> np.ndarray:
        """(H, W) uint8: class index, or 255.

        Raises:
            InputError: if the image has no label, or a malformed one.
        """
        if image_id not in self.labeled:
            raise InputError(f"{self.images.get(image_id, image_id)}: has no label")
        image = self.labeled[image_id]
        return self._mapping(image.paint(displayed_size(image.photo)), image.photo)


def tool_of(root: Path) -> Format | None:
    """The tool that wrote the labels of a folder; None for mask images or an unknown format."""
    try:
        found = detect(Source(root, root))
    except InputError:
        return None
    return None if found == "masks" else cast(Format, found)
