"""The interface of all data sets: ids, images, masks, class names, colors."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from semiseg.data.readers.images import read_image
from semiseg.errors import InputError

if TYPE_CHECKING:
    from semiseg.data.datasets.class_file import ClassFile  # needs torch

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

Balance = Literal["classes"]
"""By what labeled crops are chosen, other than each image equally often."""


class SegmentationDataset(ABC):
    """Random access to images and masks by id. Independent of partitions, views and batches.

    Attributes:
        name: the name of its configuration file.
        classes: class names; the position is the class index.
        palette: one (R, G, B) in 0..255 per class.
        mean, std: per-channel statistics of images scaled to [0, 1], used for normalization.
        variant: other settings that determine the images of the ids, if there are no files.
        blank: whether unlabeled pixels of labeled images are ignored, or treated like those of unlabeled images.
        channels: number of channels of every image.
        balance: ``classes``: labeled crops show rare classes more often, see ``semiseg.data.loading.balance``.
        class_file: the class file of mask images, if there is one.
    """

    name: str
    classes: tuple[str, ...]
    palette: tuple[tuple[int, int, int], ...]
    mean: Sequence[float] = IMAGENET_MEAN
    std: Sequence[float] = IMAGENET_STD
    variant: str = ""
    blank: Literal["ignore", "unlabeled"] = "ignore"
    balance: Balance | None = None
    channels: int = 3
    class_file: ClassFile | None = None

    @abstractmethod
    def ids(self, split: str) -> list[str]:
        """Sorted ids of the images of ``split`` ("train", "val", ...). Raises InputError if there are none."""

    @abstractmethod
    def load_image(self, image_id: str) -> np.ndarray:
        """(H, W, channels) uint8, RGB if three. Raises InputError naming the file if it cannot be read."""

    @abstractmethod
    def load_mask(self, image_id: str) -> np.ndarray:
        """(H, W) uint8: class index, or 255 for ignored. Raises InputError naming a missing or invalid file."""

    @abstractmethod
    def has_mask(self, image_id: str) -> bool:
        """Whether this image has a mask. Does not open it."""

    def group(self, image_id: str) -> str:
        """The drive, patient or scene of the image; partitions are spread over groups. Default: one group."""
        return ""

    def locate(self, image_id: str) -> str:
        """Path or description of the image, for error messages."""
        return image_id

    def image_file(self, image_id: str) -> Path | None:
        """The file of an image; None if images are not files."""
        return None

    def mask_file(self, image_id: str) -> Path | None:
        """The file that a mask is read or generated from; None if there is none."""
        return None

    @property
    def value_range(self) -> tuple[float, float] | None:
        """Values mapped to 0 and 255 in images with more than 8 bits per sample; None if there are no such images."""
        return None

    def adopt_range(self, measured: Sequence[float] | None) -> None:
        """Use the value range that an earlier run measured, unless one was configured."""
        return  # 8-bit images need none

    def strays(self) -> dict[str, list[str]]:
        """Files that are probably not used as intended: cause -> one line per file."""
        return {}


class ListedDataset(SegmentationDataset):
    """A data set whose image and mask files are listed once, at construction.

    Attributes:
        root: the folder of the data set.
    """

    root: Path
    _images: dict[str, Path]
    _masks: dict[str, Path]

    def load_image(self, image_id: str) -> np.ndarray:
        """(H, W, 3) uint8, RGB."""
        return read_image(self._path(self._images, image_id, "image"))

    def has_mask(self, image_id: str) -> bool:
        """Whether there is a mask; looked up in the listing made at construction."""
        return image_id in self._masks

    def locate(self, image_id: str) -> str:
        """Path of the image."""
        return str(self._images.get(image_id, image_id))

    def image_file(self, image_id: str) -> Path | None:
        """Path of the image."""
        return self._images.get(image_id)

    def mask_file(self, image_id: str) -> Path | None:
        """Path of the mask."""
        return self._masks.get(image_id)

    def _path(self, paths: Mapping[str, Path], image_id: str, what: str) -> Path:
        if image_id not in paths:
            raise InputError(f"{self.name} in {self.root} has no {what} for '{image_id}'")
        return paths[image_id]
