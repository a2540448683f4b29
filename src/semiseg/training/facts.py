"""Collects the facts about a folder and the machine that a proposal is based on."""

from __future__ import annotations

import importlib.util
import statistics

import torch

from semiseg.data.checking.start import LOOKED_AT, shown_classes
from semiseg.data.datasets.folder import Folder
from semiseg.models.packaged import PACKAGES
from semiseg.runs.data import RunData
from semiseg.sweep.slots import cpu_cores
from semiseg.training.proposal import FolderFacts, MachineFacts


def folder_facts(data: RunData) -> FolderFacts:
    """Read the headers of up to `LOOKED_AT` photos, and as many labeled masks.

    Raises:
        InputError: for a file that cannot be read.
    """
    dataset, partition = data.dataset, data.partition
    assert isinstance(dataset, Folder)
    ids = [*partition.labeled, *partition.unlabeled]
    sizes = [dataset.image_size(i) for i in ids[:: -(-len(ids) // LOOKED_AT)]]
    # One more class than there are, so that masks are opened up to the limit.
    shown = shown_classes(dataset, partition.labeled, limit=LOOKED_AT, enough=len(dataset.classes) + 1)
    pixels = shown.pixels[:-1]
    total = max(int(pixels.sum()), 1)
    return FolderFacts(
        labeled=len(partition.labeled),
        unlabeled=len(partition.unlabeled),
        validation=len(data.val_ids),
        short=round(statistics.median(min(size) for size in sizes)),
        long=round(statistics.median(max(size) for size in sizes)),
        shares={name: int(count) / total for name, count in zip(dataset.classes, pixels)},
    )


def machine_facts() -> MachineFacts:
    """Number of cores, the first GPU, and whether pretrained weights are installed."""
    # What a proposal uses: lite0 without a GPU, lite2 with one.
    name = "tf_efficientnet_lite2" if torch.cuda.is_available() else "tf_efficientnet_lite0"
    packaged = importlib.util.find_spec(PACKAGES[name]) is not None
    if not torch.cuda.is_available():
        return MachineFacts(cpu_cores(), packaged=packaged)
    gpu = torch.cuda.get_device_properties(0)
    return MachineFacts(cpu_cores(), gpu.name, gpu.total_memory / 2**30, torch.cuda.is_bf16_supported(), packaged)
