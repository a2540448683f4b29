"""Files of custom data that are probably not used as intended."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path

from semiseg.data.readers.listing import IMAGE_SUFFIXES, find_files, printable, strip_suffix

UNMATCHED = "masks that match no image"
MASKS_AMONG_IMAGES = "files among the images that look like masks"
NOT_READ = "files that are not read"

_MASK_NAME = re.compile(r"[-_.](mask|masks|label|labels|labelids|seg|segmentation|gt|annotation)$", re.IGNORECASE)
_NO_DATA = frozenset({".db", ".ini", ".txt", ".md", ".yaml", ".yml", ".csv"})  # common next to data


def find_strays(
    images: Path, masks: Path, image_files: Mapping[str, Path], mask_files: Mapping[str, Path]
) -> dict[str, list[str]]:
    """Compare the two folders of a data set.

    Args:
        images, masks: the folders.
        image_files, mask_files: the files found in them, by id.

    Returns:
        Cause -> one line per file, without empty causes.
    """
    alone = sorted(mask_files.keys() - image_files.keys())
    alike = _first_by(image_files, partial(unicodedata.normalize, "NFC")), _first_by(image_files, str.casefold)
    lines = {
        UNMATCHED: [_unmatched(mask_files[i], i, image_files, *alike) for i in alone],
        MASKS_AMONG_IMAGES: list(_masks_among(image_files, mask_files)),
        NOT_READ: [*_not_read(images), *_not_read(masks)],
    }
    return {cause: found for cause, found in lines.items() if found}


def _first_by(images: Mapping[str, Path], form: Callable[[str], str]) -> dict[str, Path]:
    """The first image for each form of an id."""
    found: dict[str, Path] = {}
    for image_id, image in images.items():
        found.setdefault(form(image_id), image)
    return found


def _unmatched(
    path: Path, mask_id: str, images: Mapping[str, Path], by_letters: Mapping[str, Path], by_case: Mapping[str, Path]
) -> str:
    for stem in (strip_suffix(mask_id), _MASK_NAME.sub("", mask_id)):
        if stem in images:
            return f"{path}: matches no image; the mask of {images[stem].name} is named {Path(stem).name}{path.suffix}"
    if (image := by_letters.get(unicodedata.normalize("NFC", mask_id))) is not None:
        return f"{path}: matches no image; {image.name} is the same name in another Unicode normalization"
    if (image := by_case.get(mask_id.casefold())) is not None:
        return f"{path}: matches no image; {image.name} differs in upper and lower case"
    return f"{path}: matches no image"


def _masks_among(images: Mapping[str, Path], masks: Mapping[str, Path]) -> Iterable[str]:
    for image_id, path in images.items():
        of = _MASK_NAME.sub("", image_id)
        if of != image_id and of in images and image_id not in masks:
            yield f"{path}: read as a photo without a mask; if it is the mask of {images[of].name}, move it to masks/"


def _not_read(folder: Path) -> Iterable[str]:
    known = IMAGE_SUFFIXES | _NO_DATA
    for path in find_files(folder, wanted=lambda name: Path(name).suffix.lower() not in known):
        yield f"{printable(path)}: not read, not an image suffix"
