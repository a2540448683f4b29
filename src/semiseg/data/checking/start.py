"""The quick checks before every training run."""

from __future__ import annotations

import weakref
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from semiseg.data.checking.files import FileCheck, check_files, turned_against_mask
from semiseg.data.datasets.base import SegmentationDataset
from semiseg.data.partitions.splits import Partition, first_problems
from semiseg.data.readers.listing import several
from semiseg.errors import InputError

LOOKED_AT = 500  # masks per part that are opened to find all its classes
FEW = 10  # labeled images, and validation images
CHUNK = 32  # masks opened at once

_counted: weakref.WeakKeyDictionary[SegmentationDataset, dict[str, np.ndarray]] = weakref.WeakKeyDictionary()
"""Pixel counts per class of the masks opened so far, so that none is opened twice."""


def quick_check(
    dataset: SegmentationDataset,
    partition: Partition,
    val_ids: Sequence[str] = (),
    *,
    max_labeled: int = 500,
    max_val: int = 100,
) -> tuple[int, int]:
    """Check for problems that would make a run fail late or its scores meaningless.

    Opens labeled and validation images with their masks, evenly spaced if there are more than ``max_labeled`` or
    ``max_val``; then more masks until two classes were seen. Unlabeled images are not opened.

    Returns:
        The largest height and the largest width, in pixels, of the images that were opened.

    Raises:
        InputError: naming up to five files; or if the labeled masks, or the validation masks, show fewer than two
            classes.
    """
    _ = dataset.value_range  # measured here, not by every thread
    train = {*partition.labeled, *partition.unlabeled}
    problems = validation_problems(dataset, train, val_ids)
    bare = {i for i in val_ids if not dataset.has_mask(i)}
    ids = _evenly(partition.labeled, max_labeled) + _evenly([i for i in val_ids if i not in bare], max_val)
    checks = _checked(dataset, ids)
    for check in checks:
        problems += check.problems
    if problems:
        raise InputError(first_problems(problems))
    for part, part_ids in (("labeled", partition.labeled), ("validation", val_ids)):
        if part_ids:
            problems += too_few_classes(dataset, part, shown_classes(dataset, part_ids, enough=2).pixels)
    if problems:
        raise InputError(first_problems(problems))
    heights, widths = zip(*(check.size for check in checks), strict=True) if checks else ((0,), (0,))
    return max(heights), max(widths)


def check_scored(dataset: SegmentationDataset, ids: Sequence[str]) -> None:
    """Make sure that there is something to score.

    Raises:
        InputError: every pixel of every mask is ignored, or a mask cannot be read.
    """
    shown = shown_classes(dataset, ids, enough=1)
    if not shown.pixels[:-1].any():
        raise InputError(too_few_classes(dataset, "validation", shown.pixels)[0])


def data_warnings(dataset: SegmentationDataset, partition: Partition, val_ids: Sequence[str]) -> list[str]:
    """Warnings for the user before training, and next to its results; one line each.

    Names classes that are missing from the labeled or validation masks, files that are probably not used as intended,
    validation images whose drive, patient or scene is also trained on, and images that may be rotated relative to their
    masks. Opens up to `LOOKED_AT` masks of each part.

    Raises:
        InputError: for a mask that cannot be read.
    """
    lines = []
    for part, ids in (("labeled", partition.labeled), ("validation", val_ids)):
        shown = shown_classes(dataset, ids, limit=LOOKED_AT)
        seen = "" if shown.opened == len(ids) else f" ({shown.opened} of {len(ids)} were checked)"
        lines += missing_classes(dataset, part, shown.pixels, seen)
    for cause, files in dataset.strays().items():
        lines.append(f"{len(files)} {cause}: {files[0]}{'; `semiseg data check` lists all' if files[1:] else ''}")
    lines += shared_groups(dataset, [*partition.labeled, *partition.unlabeled], val_ids)
    checked = [*_evenly(partition.labeled, LOOKED_AT), *_evenly(val_ids, LOOKED_AT)]
    with ThreadPoolExecutor() as pool:
        turned = [line for line in pool.map(lambda i: turned_against_mask(dataset, i), checked) if line]
    if turned:
        lines.append(f"{len(turned)} images may be rotated relative to their masks: {turned[0]}")
    return lines


def shared_groups(dataset: SegmentationDataset, train_ids: Iterable[str], val_ids: Sequence[str]) -> list[str]:
    """A line if validation images share their drive, patient or scene with training images."""
    trained = {dataset.group(i) for i in train_ids} - {""}
    shared = [group for i in val_ids if (group := dataset.group(i)) in trained]
    if not shared:
        return []
    return [
        f"{len(shared)} of {len(val_ids)} validation images are from groups that are also trained on "
        f"({several(sorted(set(shared)))}): the score may be too high for new groups"
    ]


def few_labels(partition: Partition, val_ids: Sequence[str]) -> list[str]:
    """A line if the labeled and validation images are too few for a reliable score."""
    labeled, val = len(partition.labeled), len(val_ids)
    if labeled >= FEW or val >= FEW:
        return []
    folds = min(5, labeled + val)
    return [
        f"{labeled} labeled and {val} validation images: the validation score is unreliable; protocol.folds={folds} "
        f"trains {folds} runs, each validated on another part of these {labeled + val} images"
    ]


@dataclass(frozen=True)
class Shown:
    """The classes that some masks show.

    Attributes:
        pixels: (classes + 1,) pixel counts of each class, ignored pixels last.
        opened: number of masks opened.
    """

    pixels: np.ndarray
    opened: int


def shown_classes(
    dataset: SegmentationDataset, ids: Sequence[str], *, limit: int | None = None, enough: int | None = None
) -> Shown:
    """Open masks in shuffled order until ``enough`` classes were seen (None: all classes).

    Args:
        dataset: source of the masks.
        ids: images with a mask.
        limit: maximum number of masks to open.
        enough: stop once this number of classes was seen.

    Raises:
        InputError: for a mask that cannot be read.
    """
    known = _counted.setdefault(dataset, {})
    enough = len(dataset.classes) if enough is None else enough
    order = [ids[k] for k in np.random.default_rng(0).permutation(len(ids))[:limit]]
    left = [i for i in order if i not in known]
    seen = [i for i in order if i in known]
    pixels = sum((known[i] for i in seen), np.zeros(len(dataset.classes) + 1, np.int64))
    while left and np.count_nonzero(pixels[:-1]) < enough:
        chunk, left = left[:CHUNK], left[CHUNK:]
        with ThreadPoolExecutor() as pool:
            known.update(zip(chunk, (_count(dataset, mask) for mask in pool.map(dataset.load_mask, chunk))))
        pixels = pixels + sum(known[i] for i in chunk)
        seen += chunk
    return Shown(pixels, len(seen))


def partly_labeled(dataset: SegmentationDataset, partition: Partition) -> tuple[str, ...]:
    """Labeled images with unlabeled pixels, if ``dataset.blank`` adds these to the unlabeled side.

    Opens all labeled masks in that case, and none otherwise.

    Raises:
        InputError: for a mask that cannot be read.
    """
    if dataset.blank == "ignore":
        return ()
    pixels = pixels_of(dataset, partition.labeled)
    return tuple(i for i, ignored in zip(partition.labeled, pixels[:, -1]) if ignored)


def pixels_of(dataset: SegmentationDataset, ids: Sequence[str]) -> np.ndarray:
    """(images, classes + 1) pixels of each class in each mask, the ignored last. Opens every mask not opened before.

    Raises:
        InputError: for a mask that cannot be read.
    """
    shown_classes(dataset, ids, enough=len(dataset.classes) + 1)  # more than there are: all are opened
    return np.stack([_counted[dataset][i] for i in ids])


def validation_problems(dataset: SegmentationDataset, train: Iterable[str], val: Iterable[str]) -> list[str]:
    """One line for each validation image that is also trained on, or has no mask."""
    train, val = set(train), list(val)
    both = [f"{dataset.locate(i)}: in the train and in the validation split" for i in val if i in train]
    bare = [f"{dataset.locate(i)}: in the validation split but has no mask" for i in val if not dataset.has_mask(i)]
    return both + bare


def too_few_classes(dataset: SegmentationDataset, part: str, pixels: np.ndarray) -> list[str]:
    """One line if masks show fewer than two classes.

    Args:
        dataset: provides the class names.
        part: "labeled" or "validation".
        pixels: (classes + 1,) pixel counts of each class in all masks of the part, ignored pixels last.
    """
    found = [name for name, count in zip(dataset.classes, pixels) if count]
    if len(found) >= 2:
        return []
    what = f"show only the class '{found[0]}'" if found else "are ignored in every pixel"
    return [
        f"{dataset.name}: all {part} masks {what}, expected at least two classes; do the mask values match the class "
        "list? `semiseg data check` counts them"
    ]


def missing_classes(dataset: SegmentationDataset, part: str, pixels: np.ndarray, note: str = "") -> list[str]:
    """One line that names the classes that no mask of a part shows. Arguments as for `too_few_classes`."""
    missing = [name for name, count in zip(dataset.classes, pixels) if count == 0]
    if not missing:
        return []
    consequence = "cannot be learned from labels" if part == "labeled" else "IoU is not defined, or 0 where predicted"
    classes = f"{'class' if len(missing) == 1 else 'classes'} {several(missing, 8)}"
    return [f"{classes}: in no {part} mask{note}, {consequence}"]


def _checked(dataset: SegmentationDataset, ids: Sequence[str]) -> list[FileCheck]:
    with ThreadPoolExecutor() as pool:
        checks = list(pool.map(lambda i: check_files(dataset, i, True), ids))
    known = _counted.setdefault(dataset, {})
    known.update({i: check.pixels for i, check in zip(ids, checks) if not check.problems})
    return checks


def _count(dataset: SegmentationDataset, mask: np.ndarray) -> np.ndarray:
    counts = np.bincount(mask.ravel(), minlength=256)
    return np.append(counts[: len(dataset.classes)], counts[-1])


def _evenly(ids: Sequence[str], limit: int) -> list[str]:
    step = max(len(ids) / limit, 1)
    return [ids[int(k * step)] for k in range(min(len(ids), limit))]
