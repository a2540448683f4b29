"""K-fold cross-validation: every labeled image is used for validation once, in a run that did not train on it."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from semiseg.data.datasets.base import SegmentationDataset
from semiseg.data.partitions.list_files import id_set_sha256
from semiseg.data.partitions.splits import Partition
from semiseg.errors import InputError


@dataclass(frozen=True)
class Fold:
    """One of the runs of a cross-validation.

    Attributes:
        count: number of folds.
        index: index of this fold, from 0.
    """

    count: int
    index: int

    def __str__(self) -> str:
        return f"fold {self.index + 1} of {self.count}"


def take_fold(
    dataset: SegmentationDataset, partition: Partition, val_ids: Sequence[str], fold: Fold, seed: int = 0
) -> tuple[Partition, tuple[str, ...], str]:
    """Labeled and validation images of one fold. Opens nothing.

    The labeled and validation images are pooled, shuffled and distributed over the folds; one fold is used for
    validation, the others are labeled. If there are several groups (``dataset.group``), images of one group stay
    together.

    Args:
        dataset: provides the groups.
        partition: the partition without folds; the unlabeled images do not change.
        val_ids: the validation images without folds.
        fold: the fold to take.
        seed: seed of the shuffle.

    Returns:
        The partition, the validation images, and a hash of the pool, which all folds share.

    Raises:
        InputError: a published list; fewer images, or groups, than folds.
    """
    if partition.official is not None:
        raise InputError(
            f"protocol.folds={fold.count}: {partition.official} is a published list with its own validation"
        )
    pool = sorted({*partition.labeled, *(i for i in val_ids if dataset.has_mask(i))})
    groups: dict[str, list[str]] = {}
    for image_id in pool:
        groups.setdefault(dataset.group(image_id), []).append(image_id)
    what = "groups of labeled images"
    if len(groups) == 1:
        groups, what = {i: [i] for i in pool}, "labeled images"
    if len(groups) < fold.count:
        raise InputError(f"protocol.folds={fold.count}: there are {len(groups)} {what}, expected at most as many folds")
    order = np.random.default_rng(seed).permutation(len(groups))
    shuffled = [list(groups.values())[k] for k in order]
    dealt: list[list[str]] = [[] for _ in range(fold.count)]
    for members in sorted(shuffled, key=len, reverse=True):  # the largest first, each to the smallest fold
        min(dealt, key=len).extend(members)
    held = set(dealt[fold.index])
    labeled = tuple(i for i in pool if i not in held)
    found = replace(partition, labeled=labeled, sha256=id_set_sha256(labeled, among=pool))
    return found, tuple(sorted(held)), hashlib.sha256("\n".join(pool).encode()).hexdigest()
