"""Write labels as a custom data set: images/, masks/, classes.yaml."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from semiseg.data.batch import IGNORE
from semiseg.data.labels.base import Labels, Size, Source
from semiseg.data.labels.classes import Mapping
from semiseg.data.labels.mask_files import key_of
from semiseg.data.readers.images import opened, orientation
from semiseg.data.readers.listing import IMAGE_SUFFIXES, find_files, several
from semiseg.errors import InputError

RECORD = "import.json"
"""Lists what an import wrote; the next import replaces only these files."""

RANKING = "ranking.csv"
"""Marks a folder that ``semiseg next`` wrote; its paths are those of the data set that the labels go to."""

_VAL = ("val", "valid", "validation")


@dataclass(frozen=True)
class Imported:
    """Result of an import.

    Attributes:
        ids: image id by photo.
        pixels: by image id, (classes + 1,) pixel counts of each class in its mask, ignored pixels last.
        not_read: files next to the photos in unsupported formats.
    """

    ids: dict[Path, str]
    pixels: dict[str, np.ndarray]
    not_read: list[Path]


def write_dataset(
    source: Source, labels: Labels, mapping: Mapping, output: Path, *, link: bool = False, overwrite: bool = False
) -> Imported:
    """Copy the photos and write masks as palette PNG files, the class file, and a record of the import.

    Everything is first written next to ``output`` and moved in place at the end: a corrupt input leaves no output.

    Args:
        source: the folder of labels and photos.
        labels: the labels that were read.
        mapping: classes and values to write.
        output: a new folder or, with ``overwrite``, the output of an earlier import.
        link: create symbolic links to the photos instead of copies.
        overwrite: replace what the earlier import wrote. Other files are kept.

    Raises:
        InputError: naming the file, for corrupt labels or photos, or an output that must not be overwritten.
    """
    old = _check_output(source, output, overwrite)
    photos = [path for path in source.photos.files if path not in labels.no_photos]
    chosen = source.image_root / "images" if (source.root / RANKING).is_file() else None
    if chosen is not None and all(path.is_relative_to(chosen) for path in photos):
        ids = {path: path.relative_to(chosen).with_suffix("").as_posix() for path in photos}
    else:
        ids = name_photos(photos, source.image_root)
    paints = {image.photo: image.paint for image in labels.images}
    if len(paints) < len(labels.images):
        seen = [image.photo for image in labels.images]
        raise InputError(f"labeled twice: {several(sorted({p for p in seen if seen.count(p) > 1}))}; keep one label")
    pixels: dict[str, np.ndarray] = {}
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{output.name}.", dir=output.parent) as folder:
            beside = Path(folder)
            for photo, image_id in ids.items():
                _place(photo, beside / "images" / f"{image_id}{photo.suffix}", link)
                if photo not in paints:
                    continue
                mask = mapping(paints[photo](displayed_size(photo)), photo)
                if (mask == IGNORE).all():  # says no more than no mask
                    continue
                _write_mask(mapping.written.stored(mask), beside / "masks" / f"{image_id}.png", mapping.palette())
                counts = np.bincount(mask.ravel(), minlength=256)
                pixels[image_id] = np.append(counts[: len(mapping.names)], counts[255])
            (beside / "classes.yaml").write_text(mapping.written.text(), encoding="utf-8")
            written = sorted(p.relative_to(beside).as_posix() for p in beside.rglob("*") if not p.is_dir())
            counted = {i: dict(zip([*mapping.names, "ignored"], n.tolist())) for i, n in pixels.items()}
            record = {
                "source": str(source.root),
                "labels": labels.tool,
                "notes": labels.remarks(mapping.blank_is_ignored),
                "pixels": counted,
            }
            (beside / RECORD).write_text(json.dumps({**record, "files": written}, indent=1) + "\n", encoding="utf-8")
            _put_in_place(beside, [RECORD, *written], output, old)  # record first: a re-import repairs it
    except OSError as error:
        raise InputError(f"output={output}: cannot be written to ({error.strerror or error})") from None
    return Imported(ids, pixels, _not_read(source))


def name_photos(photos: Sequence[Path], root: Path) -> dict[Path, str]:
    """Ids of the data set: paths without suffix and without folders such as `images`.

    The folders train and val (or valid) are kept as splits if both exist; otherwise train is dropped, as a train
    folder alone would be read as a split.

    Raises:
        InputError: if two photos get the same id.
    """
    keys = {path: key_of(path, root) for path in photos}
    heads = {key.partition("/")[0] for key in keys.values() if "/" in key}
    all_split = all(key.partition("/")[0] in ("train", "test", *_VAL) and "/" in key for key in keys.values())
    ids: dict[Path, str] = {}
    taken: dict[str, Path] = {}
    for path, key in keys.items():
        head, _, rest = key.partition("/")
        if rest and all_split and "train" in heads and heads & set(_VAL):
            key = f"val/{rest}" if head in _VAL else key
        elif rest and head == "train":
            key = rest
        if key in taken:
            raise InputError(f"{taken[key]} and {path} would both get the image id '{key}'; rename one of them")
        ids[path], taken[key] = key, path
    return dict(sorted(ids.items(), key=lambda item: item[1]))


def displayed_size(photo: Path) -> Size:
    """Height and width of a photo with its EXIF orientation applied. Reads only the header."""
    with opened(photo, load=False) as image:
        width, height = image.size
    return (width, height) if orientation(photo) > 4 else (height, width)


def _check_output(source: Source, output: Path, overwrite: bool) -> list[str]:
    """Files of an earlier import, relative to ``output``. Raises InputError if ``output`` must not be written to."""
    target = output.resolve()
    for root in (source.root.resolve(), source.image_root.resolve()):
        if target == root or root in target.parents or target in root.parents:
            raise InputError(f"output={output}: inside the source, or contains it; choose a folder outside the source")
    if not output.exists() or (output.is_dir() and not any(output.iterdir())):
        return []
    record = output / RECORD
    if not record.is_file():
        raise InputError(f"output={output} exists and was not written by an import: choose another folder")
    if not overwrite:
        raise InputError(f"output={output} exists and is not overwritten: choose another folder, or overwrite=true")
    try:
        files = json.loads(record.read_text(encoding="utf-8"))["files"]
        inner = [f for f in files if f == "classes.yaml" or (f.startswith(("images/", "masks/")) and ".." not in f)]
    except (ValueError, KeyError, TypeError, AttributeError):
        raise InputError(f"{record}: not a valid import record; choose another output") from None
    return inner


def _put_in_place(beside: Path, files: Sequence[str], output: Path, old: Sequence[str]) -> None:
    kept = [f for f in files if f not in old and f != RECORD and os.path.lexists(output / f)]
    if kept:
        raise InputError(
            f"output={output}: {several(kept, 3)} exists and was not written by an import; move it elsewhere"
        )
    for name in old:
        (output / name).unlink(missing_ok=True)
    for name in files:
        (output / name).parent.mkdir(parents=True, exist_ok=True)
        os.replace(beside / name, output / name)


def _place(photo: Path, path: Path, link: bool) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if link:
        path.symlink_to(photo.resolve())
    else:
        shutil.copyfile(photo, path)


def _write_mask(mask: np.ndarray, path: Path, palette: list[int]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(mask)
    image.putpalette(palette)
    image.save(path)


def _not_read(source: Source) -> list[Path]:
    """Files in unsupported formats, such as HEIC and camera raw."""
    known = IMAGE_SUFFIXES | {".json", ".txt", ".yaml", ".yml", ".md", ".csv", ".names", ".data", ".xml", ".html"}
    files = find_files(source.image_root)
    return [path for path in files if path.suffix and path.suffix.lower() not in known]
