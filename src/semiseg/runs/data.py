"""The data of a run: which images it learns from and is scored on. No image is opened here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from semiseg.data.datasets.base import SegmentationDataset
from semiseg.data.partitions.splits import Partition, PartitionArgs, make_partition


@dataclass(frozen=True)
class RunData:
    """The images of a run.

    Attributes:
        dataset: where images and masks come from.
        partition: ids of the labeled and the unlabeled images.
        val_ids: ids of the images that are evaluated.
    """

    dataset: SegmentationDataset
    partition: Partition
    val_ids: tuple[str, ...]


def open_data(make_dataset: Callable[[], SegmentationDataset], partition: PartitionArgs, val_split: str) -> RunData:
    """List the images of a run.

    Raises:
        InputError: the data set or a list is missing or wrong.
    """
    dataset = make_dataset()
    return RunData(dataset, make_partition(dataset, **partition), tuple(dataset.ids(val_split)))
