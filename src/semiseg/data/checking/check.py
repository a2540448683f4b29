"""Find problems in the files of a data set before training."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass

import numpy as np
from tqdm import tqdm

from semiseg.data.checking.files import check_files
from semiseg.data.checking.report import Report
from semiseg.data.checking.start import missing_classes, shared_groups, too_few_classes, validation_problems
from semiseg.data.datasets.base import SegmentationDataset
from semiseg.data.fingerprint import data_fingerprint
from semiseg.data.partitions.splits import PartitionArgs, find_partition
from semiseg.errors import InputError

CHUNK = 32  # images that a process reads before it reports
FEW = 128  # up to this many images are read in this process, as starting others takes longer
EXAMPLES = 3  # images kept per class, for the picture sheet

Job = tuple[str, bool]
"""An image id, and whether its mask is opened."""


def check_dataset(
    dataset: SegmentationDataset,
    partition: PartitionArgs | None = None,
    *,
    val_split: str = "val",
    all_masks: bool = False,
    workers: int | None = None,
    progress: bool = False,
) -> Report:
    """Open every image of the train and validation splits once, and every mask that a run would open.

    Args:
        dataset: the data set.
        partition: how the train split is partitioned; None: every train image with a mask counts as labeled.
        val_split: the split used for validation.
        all_masks: also open the masks of unlabeled images.
        workers: reader processes; None: one per core. A small number of images is read in this process.
        progress: show a progress bar.

    Returns:
        All problems, file by file, and the statistics.
    """
    n_classes = len(dataset.classes)
    _ = dataset.value_range  # measured here, not by every process
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
    report.problems += validation_problems(dataset, train, val)

    outside = set() if report.partition is None else {*report.partition.labeled, *report.partition.unlabeled}
    parts = {"labeled": set(labeled), "validation": set(val)}
    pixels = {part: np.zeros(n_classes + 1, np.int64) for part in parts}
    with_mask = parts["labeled"] | parts["validation"] | ({*train, *outside} if all_masks else set())
    jobs = [(i, i in with_mask and dataset.has_mask(i)) for i in sorted({*train, *val, *outside})]
    with tqdm(total=len(jobs), desc="checking", disable=not progress, unit="image") as bar:
        for found in _read(dataset, jobs, workers):
            _add(report, found)
            for part, ids in parts.items():
                pixels[part] += sum(found.shows[i] for i in found.shows.keys() & ids)
            bar.update(found.opened_images)
    for files in dataset.strays().values():
        report.warnings += files
    for part in parts:
        if not report.problems and parts[part]:
            report.problems += too_few_classes(dataset, part, pixels[part])
        report.warnings += missing_classes(dataset, part, pixels[part])
    report.warnings += shared_groups(dataset, train, val)
    if report.partition is not None:
        report.fingerprint = data_fingerprint(dataset, report.partition, val, contents=True)
    return report


@dataclass
class _Found:
    """Result of reading one chunk of images; small, as it is sent between processes."""

    problems: list[str]
    warnings: list[str]
    pixels: np.ndarray
    images_with: np.ndarray
    examples: dict[int, list[str]]
    opened_images: int
    opened_masks: int
    shows: dict[str, np.ndarray]


def _read(dataset: SegmentationDataset, jobs: list[Job], workers: int | None) -> Iterator[_Found]:
    """Read all images, in the order of ``jobs``. Keeps only counts and problems, not the images."""
    chunks = [jobs[first : first + CHUNK] for first in range(0, len(jobs), CHUNK)]
    workers = workers or _cores()
    if len(jobs) <= FEW or workers == 1:
        yield from (_read_chunk(dataset, chunk) for chunk in chunks)
        return
    # Processes, not threads: a reader that paints or maps labels in Python would hold the GIL.
    with ProcessPoolExecutor(workers, initializer=_start, initargs=(dataset,)) as pool:
        yield from pool.map(_read_chunk_here, chunks)


def _cores() -> int:
    """Number of cores this process may use, which a container or scheduler may limit."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


_dataset: SegmentationDataset | None = None  # in a reader process; sent once, not with every chunk


def _start(dataset: SegmentationDataset) -> None:
    global _dataset
    _dataset = dataset


def _read_chunk_here(jobs: list[Job]) -> _Found:
    assert _dataset is not None  # set when the process starts
    return _read_chunk(_dataset, jobs)


def _read_chunk(dataset: SegmentationDataset, jobs: list[Job]) -> _Found:
    n_classes = len(dataset.classes)
    found = _Found([], [], np.zeros(n_classes + 1, np.int64), np.zeros(n_classes, np.int64), {}, len(jobs), 0, {})
    for image_id, opens_mask in jobs:
        check = check_files(dataset, image_id, opens_mask)
        found.problems += check.problems
        found.warnings += check.warnings
        found.pixels += check.pixels
        found.images_with += check.pixels[:-1] > 0
        found.opened_masks += opens_mask
        if opens_mask:
            found.shows[image_id] = check.pixels
        if not check.problems:  # it can be shown on the sheet
            for label in np.flatnonzero(check.pixels[:-1]).tolist():
                _keep(found.examples, label, [image_id])
    return found


def _add(report: Report, found: _Found) -> None:
    report.problems += found.problems
    report.warnings += found.warnings
    report.pixels += found.pixels
    report.images_with += found.images_with
    report.opened_images += found.opened_images
    report.opened_masks += found.opened_masks
    for label, ids in found.examples.items():
        _keep(report.examples, label, ids)


def _keep(examples: dict[int, list[str]], label: int, ids: list[str]) -> None:
    kept = examples.setdefault(label, [])
    kept += ids[: EXAMPLES - len(kept)]


def _ids(dataset: SegmentationDataset, split: str, report: Report) -> list[str]:
    try:
        ids = dataset.ids(split)
    except InputError as error:
        report.problems.append(str(error))
        return []
    report.images[split] = len(ids)
    report.masks[split] = sum(dataset.has_mask(i) for i in ids)
    return ids
