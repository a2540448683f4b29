"""Decoded images on disk, memory-mapped: all workers and runs share one copy. Opt-in."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from semiseg.data.datasets.base import SegmentationDataset
from semiseg.data.readers.file_cache import FileCache
from semiseg.data.readers.images import WIDE_SUFFIXES


class ImageCache(FileCache):
    """Images as ``load_image`` returns them, (H, W, channels) uint8, one ``.npy`` file each: a byte per channel.

    They are mapped read-only: the operating system keeps recently used pages in memory, once for all processes, and
    drops them when memory is short.
    """

    key = "loader.cache"
    suffix = ".npy"

    def image(self, dataset: SegmentationDataset, image_id: str) -> np.ndarray:
        """``dataset.load_image(image_id)``, from the folder if it was decoded before.

        Images that are not files are not cached.
        """
        source = dataset.image_file(image_id)
        if source is None or not source.is_file():
            return dataset.load_image(image_id)
        # Samples of more than 8 bits are scaled by the value range of the data set.
        wide = source.suffix.lower() in WIDE_SUFFIXES
        rule = f"{dataset.name} {dataset.value_range if wide else None}"
        rule += f" {dataset.channels} channels" if dataset.channels != 3 else ""
        return self.get(source, rule, lambda: dataset.load_image(image_id))

    def read(self, path: Path) -> np.ndarray | None:
        """(H, W, channels) uint8, read-only; None if the file is missing or corrupt."""
        try:
            mapped: np.memmap = np.load(path, mmap_mode="r", allow_pickle=False)
            return mapped.view(np.ndarray)
        except (OSError, ValueError, EOFError):  # missing, not an array, shorter than its header says
            return None

    def write(self, path: Path, array: np.ndarray) -> None:
        """Write the file and sync it: after a power failure an entry is complete or missing."""
        with path.open("wb") as file:
            np.save(file, array, allow_pickle=False)
            file.flush()
            os.fsync(file.fileno())
