"""The data of a run: its training and validation images. No image is opened here."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from semiseg.config.filed import filed_under, filed_with_pseudo_labels
from semiseg.data.datasets.base import SegmentationDataset
from semiseg.data.datasets.pseudo_labeled import PseudoLabeled, PseudoLabels, read_pseudo_labels
from semiseg.data.fingerprint import Fingerprint, data_fingerprint, describe_difference
from semiseg.data.partitions.folds import Fold, take_fold
from semiseg.data.partitions.splits import Partition, PartitionArgs, make_partition
from semiseg.errors import InputError


@dataclass(frozen=True)
class RunData:
    """The images of a run.

    Attributes:
        dataset: source of images and masks.
        partition: ids of the labeled and the unlabeled images.
        val_ids: ids of the validation images.
        protocol: ``<data>/<partition>``, the name results are filed under; ``<data>/custom_<hash>`` for custom lists.
        fold: the fold of a cross-validation; None without cross-validation.
        pool: hash of the ids shared by all folds; "" without cross-validation.
        pseudo_labels: which of the labels a teacher made, and with what; None: a person made all.
    """

    dataset: SegmentationDataset
    partition: Partition
    val_ids: tuple[str, ...]
    protocol: str
    fold: Fold | None = None
    pool: str = ""
    pseudo_labels: PseudoLabels | None = None

    @cached_property
    def fingerprint(self) -> Fingerprint:
        """Hashes of classes, ids and file sizes, independent of the folder's location."""
        return data_fingerprint(self.dataset, self.partition, self.val_ids)

    @property
    def validation_digest(self) -> str:
        """Hash of the classes and the validation images: scores are comparable if it is equal."""
        parts = self.fingerprint.parts
        facts = {key: parts[key] for key in ("classes", "variant", "val")}
        return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()

    @property
    def record(self) -> dict[str, Any]:
        """The record in a run folder and its checkpoints: fingerprint digest and parts, and the data folder."""
        root = getattr(self.dataset, "root", None)
        found = self.fingerprint
        record = {"digest": found.digest, "root": None if root is None else str(root), "parts": found.parts}
        return record | ({"pool": self.pool} if self.fold else {})


def open_data(
    make_dataset: Callable[[], SegmentationDataset], partition: PartitionArgs, val_split: str, fold: Fold | None = None
) -> RunData:
    """List the images of a run.

    Args:
        make_dataset: () -> the data set.
        partition: which of its images are labeled.
        val_split: the split that is evaluated.
        fold: the fold of a cross-validation, which redistributes labeled and validation images.

    Raises:
        InputError: the data set or a list is missing or wrong.
    """
    dataset = make_dataset()
    found = make_partition(dataset, **partition)
    name = filed_under(str(partition.get("name")), found)
    val_ids = tuple(dataset.ids(val_split))
    if fold is None:
        return RunData(dataset, found, val_ids, name)
    found, val_ids, pool = take_fold(dataset, found, val_ids, fold, partition.get("seed", 0))
    return RunData(dataset, found, val_ids, name, fold, pool)


def with_pseudo_labels(data: RunData, folder: Path) -> RunData:
    """The same images, with the masks that a teacher made among the labeled ones.

    The hash of the labeled list remains that of the images that a person labeled.

    Raises:
        InputError: the folder holds none, they were changed since, or are of other images or classes.
    """
    found = read_pseudo_labels(folder, data.dataset.classes)
    if odd := sorted(set(found.ids) - set(data.partition.unlabeled)):
        raise InputError(
            f"pseudo_labels={folder}: {len(odd)} of its images are no unlabeled images of {data.protocol} ({odd[0]}): "
            "call semiseg distill again"
        )
    partition = Partition(
        labeled=tuple(sorted({*data.partition.labeled, *found.ids})),
        unlabeled=tuple(i for i in data.partition.unlabeled if i not in set(found.ids)),
        sha256=data.partition.sha256,
        official=None,
        own_lists=data.partition.own_lists,
    )
    return dataclasses.replace(
        data,
        dataset=PseudoLabeled(data.dataset, found),
        partition=partition,
        protocol=filed_with_pseudo_labels(data.protocol),
        pseudo_labels=found,
    )


def other_data(old: Mapping[str, Any], new: Mapping[str, Any]) -> str:
    """Description of how two data records differ; empty if they do not. The folder's location is ignored."""
    if old.get("digest") == new["digest"]:
        return ""
    parts = old.get("parts")
    said = describe_difference(parts, new["parts"]) if isinstance(parts, Mapping) else ""
    moved = old.get("root") != new["root"] and old.get("root") is not None
    where = f" (data.root={old['root']} there, {new['root']} here)" if moved else ""
    return f"{said or 'another data fingerprint'}{where}"


def read_record(path: Path) -> dict[str, Any] | None:
    """The record of a run folder; None if it is missing or unreadable."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None
