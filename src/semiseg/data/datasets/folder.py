"""Custom images and masks."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from semiseg.arguments import checked
from semiseg.data.datasets.base import Balance, ListedDataset
from semiseg.data.datasets.class_file import read_class_file, without_classes
from semiseg.data.datasets.folder_masks import MaskFormat, MaskReader
from semiseg.data.datasets.layout import require_root
from semiseg.data.datasets.mask_names import PATTERNS, check_pattern, fit
from semiseg.data.datasets.strays import find_strays
from semiseg.data.labels.detect import Format
from semiseg.data.labels.live import LiveLabels, tool_of
from semiseg.data.partitions.splits import first_problems, how_many, read_list, spread
from semiseg.data.readers.bands import measure_channel_range, read_channels
from semiseg.data.readers.images import MAX_PIXELS, measure_range, opened, orientation
from semiseg.data.readers.listing import file_is_there, list_images, several
from semiseg.errors import InputError, suggest


@checked
class Folder(ListedDataset):
    """Images below `images/`, masks below `masks/` with the same relative path and stem, any image suffixes.

    The id of an image is its path below `images/` without suffix. An image without a mask is unlabeled.
    `classes.yaml` lists the classes, see `class_file`.

    Splits, the first of these that applies:

    1. **subfolders**: with a folder `images/train`, every folder directly in `images/` is a split:
       `images/train`, `images/val`, `images/test`, and likewise `masks/train`, ... Unlabeled images go into
       `images/train`, too.
    2. **lists**: with a file `val.txt` in ``root``, each `<split>.txt` there lists the images of that split;
       without a `train.txt`, "train" is every image that is on no list.
    3. **fraction**: "val" is ``val_fraction`` of the images that have a mask, every n-th of them; with
       ``group_by`` whole groups are held out instead, so that no patient or drive is on both sides. "train"
       is the rest.

    Args:
        root: the folder that contains `images/`, `masks/` and the class file.
        name: name of the data set in run folders and results.
        classes: class file, relative to ``root``.
        mask_name: name of the mask of a photo, such as "{stem}_mask", without suffix. Masks are below `masks/` or, if
            there is no such folder, next to the photos. By default, common patterns are tried, see `mask_names`.
        mask_format: "index" (gray or palette PNG whose values are positions in the class file, 255 ignored),
            "color" (RGB colors of the class file), "binary" (0 is the first of two entries, 255 the second), or
            "auto": detected, see `MaskReader`.
        labels: "masks": mask images as above; or a tool whose files are read as they are, anywhere below ``root``:
            "labelme", "coco", "yolo", "label_studio", "cvat_masks". "auto": mask images, unless there is no class file
            and the files are those of a tool. Classes, ids and colors are then those that `semiseg data import` would
            write; unpainted pixels are "background".
        blank: treatment of unpainted pixels of labeled images (value 255 and ignored classes): "unlabeled" adds them
            to the unlabeled side of methods that have one.
        balance: "classes": labeled crops show rare classes more often, see `ClassBalance`.
        val_fraction: see above, in (0, 1).
        group_by: how images are grouped. "subfolder": by the folder of the image; "prefix": by the file name up to
            the first underscore; or a regular expression searched in the id: by its first group, or the whole
            match.
        seed: another seed chooses another "val" in case 3.
        range: values mapped to 0 and 255 in images with more than 8 bits per sample, or "auto": measured over the
            images of "train", see `measure_range`.
        max_pixels: larger images are rejected.
        channels: number of channels of every image, see `semiseg.data.readers.bands`.

    Raises:
        InputError: for a missing folder, no images, no mask that matches an image, or an invalid class file.
    """

    def __init__(
        self,
        root: str | Path | None,
        *,
        name: str = "folder",
        classes: str = "classes.yaml",
        mask_name: str | None = None,
        mask_format: MaskFormat = "auto",
        labels: Format = "auto",
        blank: Literal["ignore", "unlabeled"] = "ignore",
        balance: Balance | None = None,
        val_fraction: Annotated[float, Field(gt=0, lt=1)] = 0.2,
        group_by: str | None = None,
        seed: Annotated[int, Field(ge=0)] = 0,
        range: Literal["auto"] | tuple[float, float] = "auto",
        max_pixels: Annotated[int, Field(ge=1)] = MAX_PIXELS,
        channels: Annotated[int, Field(ge=1, le=64)] = 3,
    ):
        if range != "auto" and not range[0] < range[1]:
            raise InputError(f"data.range={list(range)}: expected [low, high] with low < high")
        self.root = require_root(root, "images/, masks/ and classes.yaml")
        self.name, self.blank, self.balance = name, blank, balance
        self._range, self._max_pixels, self.channels = range, max_pixels, channels
        self._group_by = group_by
        self._group_pattern = _compile(group_by) if group_by not in (None, "subfolder", "prefix") else None
        self._live = self._read_labels(labels, self.root / classes)
        if self._live is None:
            self._read_masks(self.root / classes, mask_name, mask_format)
        self._splits = self._make_splits(val_fraction, seed)

    def _read_labels(self, labels: Format, classes: Path) -> LiveLabels | None:
        """Labels of a tool; None where they are mask images."""
        told = tool_of(self.root) if labels == "auto" and not file_is_there(classes) else labels
        if told is None:
            raise InputError(without_classes(self.root, classes))
        if told in ("auto", "masks"):
            return None
        class_file = read_class_file(classes) if classes.is_file() else None
        live = LiveLabels(self.root, told, "ignore" if self.blank == "unlabeled" else "background", class_file)
        self.classes, self.palette, self.variant = live.classes, live.palette, live.variant
        self._images, self._masks = live.images, {}
        self._found_names = f"data.labels={told}" if labels == "auto" else ""
        return live

    def _read_masks(self, classes: Path, mask_name: str | None, mask_format: MaskFormat) -> None:
        """Mask images."""
        self.class_file = class_file = read_class_file(classes)
        self.classes, self.palette = class_file.classes, class_file.palette
        self._images, self._masks, self._found_names = self._pair(mask_name)
        if not self._masks.keys() & self._images.keys():
            raise InputError(
                f"{self.root / 'masks'}: no mask is named like an image; masks/{next(iter(self._masks))} "
                f"should be masks/{next(iter(self._images))}"
            )
        fitting = [path for image_id, path in self._masks.items() if image_id in self._images]
        self._mask_reader = MaskReader(class_file, mask_format, fitting)

    def ids(self, split: str) -> list[str]:
        """Sorted ids of a split, see the class docstring."""
        if split not in self._splits:
            raise InputError(f"{self.root} has no split '{split}': {suggest(split, self._splits)}")
        if not self._splits[split]:
            few = "; at least two images need a mask, one of them for validation" if split == "train" else ""
            raise InputError(f"{self.root}: the split '{split}' has no images{few}")
        return list(self._splits[split])

    @cached_property
    def value_range(self) -> tuple[float, float] | None:  # type: ignore[override]  # measured once
        """``range``, or the measured range; None if no image of "train" has more than 8 bits per sample."""
        if self._range != "auto":
            return (float(self._range[0]), float(self._range[1]))
        train = self._splits.get("train") or list(self._images)
        if self.channels != 3:
            return measure_channel_range([self._images[i] for i in train], self.channels, self._max_pixels)
        return measure_range([self._images[i] for i in train], self._max_pixels)

    def adopt_range(self, measured: Sequence[float] | None) -> None:
        """Use the value range that an earlier run measured, unless ``range`` was given."""
        if self._range == "auto" and measured is not None:
            self._range = (measured[0], measured[1])

    def load_image(self, image_id: str) -> np.ndarray:
        """(H, W, channels) uint8, RGB if three."""
        path = self._path(self._images, image_id, "image")
        return read_channels(path, self.channels, value_range=lambda: self.value_range, max_pixels=self._max_pixels)

    def image_size(self, image_id: str) -> tuple[int, int]:
        """(H, W) of an image as it is displayed, from the header of its file if it has one of a photo."""
        if self.channels != 3:
            return self.load_image(image_id).shape[:2]
        path = self._path(self._images, image_id, "image")
        with opened(path, None, load=False) as image:
            width, height = image.size
        return (width, height) if orientation(path) > 4 else (height, width)

    def load_mask(self, image_id: str) -> np.ndarray:
        """(H, W) uint8: class index, or 255 for value 255 and for ignored entries of the class file."""
        if self._live is not None:
            return self._live.mask(image_id)
        return self._mask_reader.read(self._path(self._masks, image_id, "mask"))

    def has_mask(self, image_id: str) -> bool:
        """Whether there is a mask, or a label."""
        return image_id in (self._masks if self._live is None else self._live.labeled)

    def strays(self) -> dict[str, list[str]]:
        """Masks that match no image, masks among the images, and files in other formats."""
        if self._live is not None:
            found = {"label format detected": [self._found_names]} if self._found_names else {}
            return found | {"note on the labels": list(self._live.notes)} if self._live.notes else found
        named = {"mask name pattern detected": [self._found_names]} if self._found_names else {}
        return named | find_strays(self.root / "images", self.root / "masks", self._images, self._masks)

    def group(self, image_id: str) -> str:
        """The group of the id according to ``group_by``."""
        if self._group_by is None:
            return ""
        parent, name = os.path.split(image_id)
        if self._group_pattern is None:
            return parent if self._group_by == "subfolder" else name.partition("_")[0]
        match = self._group_pattern.search(image_id)
        if match is None:
            raise InputError(f"data.group_by={self._group_by}: does not match the image '{image_id}'")
        return match.group(1 if match.re.groups else 0) or ""

    def _pair(self, pattern: str | None) -> tuple[dict[str, Path], dict[str, Path], str]:
        """Images and masks by image id, and the name pattern if it was detected."""
        if pattern is not None:
            check_pattern(pattern)
        images = self._list("images")
        beside = not (self.root / "masks").is_dir()
        files = images if beside else self._list("masks")
        pairs, used = fit(images, files, pattern, patterns=PATTERNS[1:] if beside else PATTERNS)
        if beside and not pairs:
            raise InputError(
                f"{self.root / 'masks'}: no such folder, and no file in images/ is named like a mask of another; "
                'data.root needs images/, masks/ and classes.yaml, or data.mask_name="{stem}_mask"'
            )
        masks, taken = {image_id: files[mask_id] for image_id, mask_id in pairs.items()}, set(pairs.values())
        left = {} if beside else {i: files[i] for i in files.keys() - taken if i not in masks}
        photos = {i: path for i, path in images.items() if not beside or i not in taken}
        found = f"data.mask_name={used}" if pattern is None and used != "{stem}" else ""
        return photos, dict(sorted({**masks, **left}.items())), found

    def _list(self, name: str) -> dict[str, Path]:
        folder = self.root / name
        if not folder.is_dir():
            raise InputError(f"{folder}: no such folder; data.root needs images/, masks/ and classes.yaml")
        found = list_images(folder, recursive=True)
        if not found:
            raise InputError(f"{folder}: contains no image files")
        return found

    def _make_splits(self, val_fraction: float, seed: int) -> dict[str, list[str]]:
        ids = list(self._images)
        kept = self._live is not None and any(i.startswith("train/") for i in ids)
        if kept or (self._live is None and (self.root / "images" / "train").is_dir()):
            return self._split_by_subfolder(ids)
        if file_is_there(self.root / "val.txt"):
            return self._split_by_lists(ids)
        labeled = [i for i in ids if self.has_mask(i)]
        count = how_many(len(labeled), None, val_fraction)
        if self._group_by is None:
            val = set(spread(labeled, count, group=self.group, seed=seed))
            return {"train": [i for i in ids if i not in val], "val": sorted(val)}
        return self._split_by_group(ids, count, seed)

    def _split_by_subfolder(self, ids: list[str]) -> dict[str, list[str]]:
        splits: dict[str, list[str]] = {}
        for image_id in ids:
            split, slash, _ = image_id.partition("/")
            if not slash:
                raise InputError(
                    f"{self.locate(image_id)}: not in a split folder; with images/train, every image "
                    "must be in the folder of its split"
                )
            splits.setdefault(split, []).append(image_id)
        return splits

    def _split_by_lists(self, ids: list[str]) -> dict[str, list[str]]:
        splits: dict[str, list[str]] = {}
        for split in ("train", "val", "test"):
            path = self.root / f"{split}.txt"
            if file_is_there(path):
                listed, problems = read_list(path, ids, str(self.root / "images"))
                if problems:
                    raise InputError(first_problems(problems))
                splits[split] = sorted(listed)
        taken = {i for listed in splits.values() for i in listed}
        if len(taken) < sum(map(len, splits.values())):
            repeated = [i for i in sorted(taken) if sum(i in listed for listed in splits.values()) > 1]
            raise InputError(f"{self.root}: listed in two splits: {several(repeated)}")
        splits.setdefault("train", [i for i in ids if i not in taken])
        return splits

    def _split_by_group(self, ids: list[str], count: int, seed: int) -> dict[str, list[str]]:
        """Hold out whole groups, in random order, until ``count`` images with a mask are held out."""
        groups = sorted({self.group(i) for i in ids if self.has_mask(i)})
        if len(groups) < 2:
            raise InputError(
                f"data.group_by={self._group_by}: all images with a mask are in one group, so none can be held "
                "out for validation; write val.txt or use another group_by"
            )
        held: set[str] = set()
        val: list[str] = []
        for k in np.random.default_rng(seed).permutation(len(groups))[:-1]:  # one group is left for training
            if len(val) >= count:
                break
            held.add(groups[k])
            val += [i for i in ids if self.has_mask(i) and self.group(i) == groups[k]]
        return {"train": [i for i in ids if self.group(i) not in held], "val": sorted(val)}


def _compile(pattern: str | None) -> re.Pattern[str]:
    try:
        return re.compile(str(pattern))
    except re.error as error:
        raise InputError(
            f"data.group_by={pattern}: neither 'subfolder', 'prefix' nor a regular expression ({error})"
        ) from error
