"""Finding out before training what is wrong with the files of a data set."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np
from tqdm import tqdm

from semiseg.data.batch import IGNORE
from semiseg.data.datasets.base import SegmentationDataset
from semiseg.data.partitions.list_files import id_set_sha256
from semiseg.data.partitions.splits import Partition, PartitionArgs, find_partition, first_problems
from semiseg.errors import InputError

CHUNK = 32  # images a process reads before it reports
FEW = 128  # images that are read in this process: starting others takes longer
EXAMPLES = 3  # images kept by class, for the picture sheet

Job = tuple[str, bool]
"""An image id, and whether its mask is opened."""


@dataclass
class Report:
    """What `check_dataset` found.

    Attributes:
        name: the data set.
        classes: its class names.
        problems: one line for each thing that is wrong, naming the file; empty if all is well.
        images: number of images by split.
        masks: number of images that have a mask, by split.
        opened_images, opened_masks: how many files were opened.
        pixels: (classes + 1,) pixels of each class, the ignored last, over all masks opened.
        images_with: (classes,) number of the masks opened that show each class.
        examples: up to `EXAMPLES` ids by class index whose masks show the class.
        partition: the partition of the train split; None if there is none.
    """

    name: str
    classes: tuple[str, ...]
    problems: list[str] = field(default_factory=list)
    images: dict[str, int] = field(default_factory=dict)
    masks: dict[str, int] = field(default_factory=dict)
    opened_images: int = 0
    opened_masks: int = 0
    pixels: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    images_with: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    examples: dict[int, list[str]] = field(default_factory=dict)
    partition: Partition | None = None

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong."""
        return not self.problems


def check_dataset(
    dataset: SegmentationDataset,
    partition: PartitionArgs | None = None,
    *,
    val_split: str = "val",
    all_masks: bool = False,
    workers: int | None = None,
    progress: bool = False,
) -> Report:
    """Open every image of the train and validation split once, and every mask that a run would open.

    Args:
        dataset: the data set.
        partition: how the train split is partitioned; None: every image of it that has a mask counts as
            labeled.
        val_split: the split runs are validated on.
        all_masks: open the masks of unlabeled images, too. Without it, they stay closed.
        workers: processes that read; None: one a core. Few images are read in this one.
        progress: show a progress bar.

    Returns:
        Everything that is wrong, file by file, and what was counted on the way.
    """
    n_classes = len(dataset.classes)
    report = Report(
        dataset.name,
        dataset.classes,
        pixels=np.zeros(n_classes + 1, np.int64),
        images_with=np.zeros(n_classes, np.int64),
    )
    train_split = (partition or {}).get("train_split", "train")
    train, val = (_ids(dataset, split, report) for split in (train_split, val_split))
    labeled: Iterable[str] = (i for i in train if dataset.has_mask(i))
    if partition is not None:
        try:
            report.partition, problems = find_partition(dataset, **partition)
        except InputError as error:
            report.problems.append(str(error))
        else:
            report.problems += problems
            labeled = report.partition.labeled
    report.problems += _validation_problems(dataset, train, val)

    outside = set() if report.partition is None else {*report.partition.labeled, *report.partition.unlabeled}
    with_mask = {*labeled, *val} | ({*train, *outside} if all_masks else set())
    jobs = [(i, i in with_mask and dataset.has_mask(i)) for i in sorted({*train, *val, *outside})]
    with tqdm(total=len(jobs), desc="checking", disable=not progress, unit="image") as bar:
        for found in _read(dataset, jobs, workers):
            _add(report, found)
            bar.update(found.opened_images)
    return report


def quick_check(
    dataset: SegmentationDataset,
    partition: Partition,
    val_ids: Sequence[str] = (),
    *,
    max_labeled: int = 500,
    max_val: int = 100,
) -> None:
    """Check what would make a run fail late, in little time: for use before every training.

    Opens labeled images with their masks and validation images with theirs, evenly chosen where there are
    more than ``max_labeled`` or ``max_val``. Opens nothing that is unlabeled.

    Raises:
        InputError: naming up to five files.
    """
    train = {*partition.labeled, *partition.unlabeled}
    problems = _validation_problems(dataset, train, val_ids)
    bare = {i for i in val_ids if not dataset.has_mask(i)}
    ids = _evenly(partition.labeled, max_labeled) + _evenly([i for i in val_ids if i not in bare], max_val)
    with ThreadPoolExecutor() as pool:
        for found, _ in pool.map(lambda i: check_files(dataset, i, True), ids):
            problems += found
    if problems:
        raise InputError(first_problems(problems))


def check_files(dataset: SegmentationDataset, image_id: str, opens_mask: bool) -> tuple[list[str], np.ndarray]:
    """Read one image, and its mask if ``opens_mask``.

    Returns:
        One line for each problem, and (classes + 1,) the pixels of each class, the ignored last.
    """
    n_classes = len(dataset.classes)
    pixels = np.zeros(n_classes + 1, np.int64)
    problems: list[str] = []
    image = mask = None
    try:
        image = dataset.load_image(image_id)
    except InputError as error:
        problems.append(str(error))
    if not opens_mask:
        return problems, pixels
    try:
        mask = dataset.load_mask(image_id)
    except InputError as error:
        problems.append(str(error))
        return problems, pixels
    if image is not None and image.shape[:2] != mask.shape:
        problems.append(
            f"{dataset.locate(image_id)}: the image is {_size(image)} pixels (width x height), its mask {_size(mask)}"
        )
    counts = np.bincount(mask.ravel(), minlength=256)
    wrong = [value for value in np.flatnonzero(counts) if n_classes <= value != IGNORE]
    if wrong:
        problems.append(
            f"{dataset.locate(image_id)}: its mask has label {wrong[0]}; expected 0..{n_classes - 1} or {IGNORE}"
        )
    pixels[:n_classes], pixels[-1] = counts[:n_classes], counts[IGNORE]
    return problems, pixels


@dataclass
class _Found:
    """What reading one chunk of images gave; small, as it travels between processes."""

    problems: list[str]
    pixels: np.ndarray
    images_with: np.ndarray
    examples: dict[int, list[str]]
    opened_images: int
    opened_masks: int


def _read(dataset: SegmentationDataset, jobs: list[Job], workers: int | None) -> Iterator[_Found]:
    """Read all images, in the order of ``jobs``. Only counts and problems are kept, no image."""
    chunks = [jobs[first : first + CHUNK] for first in range(0, len(jobs), CHUNK)]
    workers = workers or _cores()
    if len(jobs) <= FEW or workers == 1:
        yield from (_read_chunk(dataset, chunk) for chunk in chunks)
        return
    # Processes: a reader that paints or maps labels in Python would hold the lock of one process's threads.
    with ProcessPoolExecutor(workers, initializer=_start, initargs=(dataset,)) as pool:
        yield from pool.map(_read_chunk_here, chunks)


def _cores() -> int:
    """Cores this process may use, which a container or a scheduler may have limited."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


_dataset: SegmentationDataset | None = None  # of a reading process; sent once, not with every chunk


def _start(dataset: SegmentationDataset) -> None:
    global _dataset
    _dataset = dataset


def _read_chunk_here(jobs: list[Job]) -> _Found:
    assert _dataset is not None  # set when the process starts
    return _read_chunk(_dataset, jobs)


def _read_chunk(dataset: SegmentationDataset, jobs: list[Job]) -> _Found:
    n_classes = len(dataset.classes)
    found = _Found([], np.zeros(n_classes + 1, np.int64), np.zeros(n_classes, np.int64), {}, len(jobs), 0)
    for image_id, opens_mask in jobs:
        problems, pixels = check_files(dataset, image_id, opens_mask)
        found.problems += problems
        found.pixels += pixels
        found.images_with += pixels[:-1] > 0
        found.opened_masks += opens_mask
        if not problems:  # a picture can be made of it
            for label in np.flatnonzero(pixels[:-1]).tolist():
                _keep(found.examples, label, [image_id])
    return found


def _add(report: Report, found: _Found) -> None:
    report.problems += found.problems
    report.pixels += found.pixels
    report.images_with += found.images_with
    report.opened_images += found.opened_images
    report.opened_masks += found.opened_masks
    for label, ids in found.examples.items():
        _keep(report.examples, label, ids)


def _keep(examples: dict[int, list[str]], label: int, ids: list[str]) -> None:
    kept = examples.setdefault(label, [])
    kept += ids[: EXAMPLES - len(kept)]


def format_report(report: Report) -> str:
    """Lay out a report for a person to read, problems last."""
    lines = [f"{report.name}: {report.opened_images} images and {report.opened_masks} masks opened"]
    lines += [f"  {split}: {n} images, {report.masks[split]} with mask" for split, n in report.images.items()]
    if report.partition is not None:
        part = report.partition
        known = part.official or "a list of your own"
        lines.append(f"  partition: {len(part.labeled)} labeled, {len(part.unlabeled)} unlabeled; {known}")
        lines.append(f"  sha256 of the labeled ids:   {part.sha256}")
        lines.append(f"  sha256 of the unlabeled ids: {id_set_sha256(part.unlabeled)}")
    total = max(int(report.pixels.sum()), 1)
    width = max(map(len, (*report.classes, "ignored")))
    lines.append(f"  {'in the masks opened:':<{width + 2}}  {'pixels':>15}  {'share':>8}  {'images':>7}")
    for name, count, images in zip((*report.classes, "ignored"), report.pixels, [*report.images_with, None]):
        note = "  <- in no mask" if images == 0 else ""
        seen = "" if images is None else str(images)
        lines.append(f"    {name:<{width}}  {count:>15,}  {100 * count / total:6.2f} %  {seen:>7}{note}".rstrip())
    if report.ok:
        return "\n".join([*lines, "no problems found"])
    return "\n".join([*lines, f"{len(report.problems)} problems:", *(f"  {p}" for p in report.problems)])


def _ids(dataset: SegmentationDataset, split: str, report: Report) -> list[str]:
    try:
        ids = dataset.ids(split)
    except InputError as error:
        report.problems.append(str(error))
        return []
    report.images[split] = len(ids)
    report.masks[split] = sum(dataset.has_mask(i) for i in ids)
    return ids


def _validation_problems(dataset: SegmentationDataset, train: Iterable[str], val: Iterable[str]) -> list[str]:
    train = set(train)
    both = [f"{dataset.locate(i)}: in the train and in the validation split" for i in val if i in train]
    bare = [f"{dataset.locate(i)}: in the validation split but has no mask" for i in val if not dataset.has_mask(i)]
    return both + bare


def _evenly(ids: Sequence[str], limit: int) -> list[str]:
    step = max(len(ids) / limit, 1)
    return [ids[int(k * step)] for k in range(min(len(ids), limit))]


def _size(array: np.ndarray) -> str:
    return f"{array.shape[1]} x {array.shape[0]}"
