"""Finding out before training what is wrong with the files of a data set."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np
from tqdm import tqdm

from semiseg.data.batch import IGNORE
from semiseg.data.datasets.base import SegmentationDataset
from semiseg.data.splits import Partition, PartitionArgs, find_partition, first_problems
from semiseg.errors import InputError


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
            labelled.
        val_split: the split runs are validated on.
        all_masks: open the masks of unlabelled images, too. Without it, they stay closed.
        workers: threads; None: a few for each core.
        progress: show a progress bar.

    Returns:
        Everything that is wrong, file by file, and what was counted on the way.
    """
    report = Report(dataset.name, dataset.classes, pixels=np.zeros(len(dataset.classes) + 1, np.int64))
    train_split = (partition or {}).get("train_split", "train")
    train, val = (_ids(dataset, split, report) for split in (train_split, val_split))
    labelled: Iterable[str] = (i for i in train if dataset.has_mask(i))
    if partition is not None:
        try:
            report.partition, problems = find_partition(dataset, **partition)
        except InputError as error:
            report.problems.append(str(error))
        else:
            report.problems += problems
            labelled = report.partition.labeled
    report.problems += _validation_problems(dataset, train, val)

    outside = set() if report.partition is None else {*report.partition.labeled, *report.partition.unlabeled}
    with_mask = {*labelled, *val} | ({*train, *outside} if all_masks else set())
    jobs = [(i, i in with_mask and dataset.has_mask(i)) for i in sorted({*train, *val, *outside})]
    with ThreadPoolExecutor(workers) as pool:
        results = pool.map(lambda job: check_files(dataset, *job), jobs)
        for (_, opens_mask), (problems, pixels) in zip(
            jobs, tqdm(results, "checking", len(jobs), disable=not progress, unit="image")
        ):
            report.problems += problems
            report.pixels += pixels
            report.opened_masks += opens_mask
    report.opened_images = len(jobs)
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

    Opens labelled images with their masks and validation images with theirs, evenly chosen where there are
    more than ``max_labeled`` or ``max_val``. Opens nothing that is unlabelled.

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


def format_report(report: Report) -> str:
    """Lay out a report for a person to read, problems last."""
    lines = [f"{report.name}: {report.opened_images} images and {report.opened_masks} masks opened"]
    lines += [f"  {split}: {n} images, {report.masks[split]} with mask" for split, n in report.images.items()]
    if report.partition is not None:
        part = report.partition
        known = part.official or "a list of your own"
        lines.append(f"  partition: {len(part.labeled)} labelled, {len(part.unlabeled)} unlabelled; {known}")
        lines.append(f"  sha256 of the labelled ids: {part.sha256}")
    total = max(int(report.pixels.sum()), 1)
    width = max(map(len, (*report.classes, "ignored")))
    lines.append("  share of pixels in the masks opened:")
    for name, count in zip((*report.classes, "ignored"), report.pixels):
        note = "  <- in no mask" if count == 0 and name != "ignored" else ""
        lines.append(f"    {name:<{width}}  {100 * count / total:6.2f} %{note}")
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
