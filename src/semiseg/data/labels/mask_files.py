"""Find which images of a source are masks, and which photos they belong to."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from semiseg.data.datasets.mask_names import PATTERNS, fit
from semiseg.data.labels.base import Source
from semiseg.data.readers.listing import find_images, is_utf8, printable, several
from semiseg.errors import InputError

MASK_FOLDERS = ("masks", "mask", "labels", "label", "annotations", "SegmentationClass", "gt", "SegmentationObject")
PHOTO_FOLDERS = ("images", "image", "JPEGImages", "photos", "imgs", "img")

_PHOTO_SUFFIXES = (".jpg", ".jpeg")  # a PNG file of the same name is the mask
_INSTANCES = "SegmentationObject"  # instances, not classes


@dataclass
class MaskFiles:
    """Pairs of photos and masks.

    Attributes:
        pairs: the masks of each photo: one, or one per class.
        by_class: class names, if there is one folder per class.
        no_photos: images that are masks, including masks without a photo.
        notes: what was inferred.
    """

    pairs: dict[Path, tuple[Path, ...]] = field(default_factory=dict)
    by_class: tuple[str, ...] = ()
    no_photos: frozenset[Path] = frozenset()
    notes: tuple[str, ...] = ()
    _folders: dict[Path, tuple[str, ...]] = field(default_factory=dict)

    def class_of(self, photo: Path) -> tuple[str, ...]:
        """The class of each mask of a photo."""
        return self._folders[photo]


def find_mask_files(source: Source, pattern: str | None) -> MaskFiles:
    """Pair photos with masks: in mask folders, in a folder separate from the photos, or next to the photos."""
    images = find_images(source.root)
    if wrong := [printable(path) for path in images if not is_utf8(path)]:
        raise InputError(f"file name is not UTF-8: {several(wrong)}; rename the file")
    elsewhere = source.image_root != source.root
    masks = [p for p in images if elsewhere or set(p.relative_to(source.root).parts[:-1]) & set(MASK_FOLDERS)]
    masks = [p for p in masks if _INSTANCES not in p.parts]
    if not masks:
        return _beside(source, images, pattern)
    taken = {p for p in images if elsewhere or set(p.relative_to(source.root).parts[:-1]) & set(MASK_FOLDERS)}
    photos = {key_of(p, source.image_root): p for p in source.photos.files if p not in taken}
    by_key: dict[str, Path] = {}
    for path in masks:
        if (other := by_key.setdefault(key_of(path, source.root), path)) is not path:
            raise InputError(f"{other} and {path}: two masks with the same name; keep one of them below the source")
    pairs, used = fit(photos, by_key, pattern)
    by_class = _by_class(photos, by_key, pattern)
    if sum(map(len, by_class.values())) > len(pairs):
        names = tuple(sorted({name for found in by_class.values() for name in found}))
        return MaskFiles(
            {photos[key]: tuple(found.values()) for key, found in by_class.items()},
            by_class=names,
            no_photos=frozenset(taken),
            notes=(f"one folder per class: {', '.join(names)}",),
            _folders={photos[key]: tuple(found) for key, found in by_class.items()},
        )
    return MaskFiles(
        {photos[key]: (by_key[mask],) for key, mask in pairs.items()},
        no_photos=frozenset(taken),
        notes=_unpaired(used, {by_key[k] for k in by_key.keys() - set(pairs.values())}),
    )


def _beside(source: Source, images: list[Path], pattern: str | None) -> MaskFiles:
    """Masks in the folder of the photos: a PNG file next to a JPEG file of the same name, or matched by name."""
    stems = {key_of(p, source.root): p for p in images if p.suffix.lower() in _PHOTO_SUFFIXES}
    png = {key_of(p, source.root): p for p in images if p.suffix.lower() == ".png"}
    twins: dict[Path, tuple[Path, ...]] = {stems[key]: (png[key],) for key in stems.keys() & png.keys()}
    if twins and pattern is None:
        masks = frozenset(mask for (mask, *_) in twins.values())
        return MaskFiles(twins, no_photos=masks, notes=("a PNG file with the name of a JPEG file is its mask",))
    ids = {key_of(p, source.root): p for p in images}
    pairs, used = fit(ids, ids, pattern, patterns=PATTERNS[1:])
    pairs = {image: mask for image, mask in pairs.items() if image != mask and image not in set(pairs.values())}
    masks = frozenset(ids[mask] for mask in pairs.values())
    return MaskFiles({ids[i]: (ids[m],) for i, m in pairs.items()}, no_photos=masks, notes=_unpaired(used, set()))


def _by_class(photos: dict[str, Path], masks: dict[str, Path], pattern: str | None) -> dict[str, dict[str, Path]]:
    """The masks of each photo by class: the first folder of a mask's path is its class."""
    found: dict[str, dict[str, Path]] = {}
    classes = sorted({key.partition("/")[0] for key in masks if "/" in key})
    for name in classes:
        inner = {key.partition("/")[2]: path for key, path in masks.items() if key.startswith(f"{name}/")}
        for photo, mask in fit(photos, inner, pattern)[0].items():
            found.setdefault(photo, {})[name] = inner[mask]
    return found


def key_of(path: Path, root: Path) -> str:
    """Path below the root without suffix and without generic folders such as `images` and `masks`."""
    parts = path.relative_to(root).with_suffix("").parts
    return "/".join([*(p for p in parts[:-1] if p not in (*MASK_FOLDERS, *PHOTO_FOLDERS)), parts[-1]])


def _unpaired(pattern: str, left: set[Path]) -> tuple[str, ...]:
    notes = () if pattern == "{stem}" else (f"masks are named {pattern} (mask_name)",)
    return (*notes, f"{len(left)} masks match no photo: {several(sorted(left))}") if left else notes
