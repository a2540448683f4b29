"""Samples by key: a data worker builds them from a draw, or from the index of a validation image."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch.utils.data import Dataset

from semiseg.data.batch import IGNORE, ViewSpec
from semiseg.data.datasets.base import SegmentationDataset
from semiseg.data.loading.balance import TRIES, ClassBalance
from semiseg.data.loading.image_cache import ImageCache
from semiseg.data.loading.sampling import Draw, Stream, sample_rng
from semiseg.data.views.transforms import TrainViews, UnlabeledViews
from semiseg.errors import InputError


class Images:
    """Images and masks of a data set, checked for matching sizes, and optionally cached.

    Args:
        dataset: source of images and masks.
        cache: True: keep images and masks in the memory of each process. A folder: cache decoded images there.

    Raises:
        InputError: the folder cannot be created.
    """

    def __init__(self, dataset: SegmentationDataset, *, cache: bool | str | Path = False) -> None:
        self.dataset = dataset
        self.n_classes = len(dataset.classes)
        self._kept: dict[tuple[Callable, str], np.ndarray] | None = {} if cache is True else None
        self._files = None if isinstance(cache, bool) else ImageCache(cache)

    def image(self, image_id: str) -> np.ndarray:
        """(H, W, 3) uint8; read-only if it comes from the cache folder."""
        if self._files is not None:
            return self._files.image(self.dataset, image_id)
        return self._load(self.dataset.load_image, image_id)

    def mask(self, image_id: str, image: np.ndarray) -> np.ndarray:
        """(H, W) uint8, the mask of an image that is already loaded."""
        mask = self._load(self.dataset.load_mask, image_id)
        if mask.shape != image.shape[:2]:
            sizes = [f"{array.shape[0]}x{array.shape[1]}" for array in (mask, image)]
            raise InputError(
                f"{self.dataset.locate(image_id)}: the mask has {sizes[0]} pixels, its image {sizes[1]}: "
                "expected the same height and width"
            )
        return mask

    def _load(self, load: Callable[[str], np.ndarray], image_id: str) -> np.ndarray:
        if self._kept is None:
            return load(image_id)
        if (load, image_id) not in self._kept:
            self._kept[load, image_id] = load(image_id)
        return self._kept[load, image_id]


@dataclass
class Sample:
    """A worker's result for a draw: ``labeled`` for the labeled stream, ``views`` for the others."""

    stream: Stream
    image_id: str
    labeled: tuple[np.ndarray, np.ndarray] | None = None
    views: UnlabeledViews | None = None


class TrainSamples(Dataset[Sample]):
    """Training samples, indexed by draw."""

    def __init__(
        self,
        images: Images,
        labeled: list[str],
        unlabeled: list[str],
        views: TrainViews,
        view_spec: ViewSpec,
        seed: int,
        hidden_truth: bool,
        balance: ClassBalance | None = None,
    ) -> None:
        self.images, self.labeled, self.unlabeled = images, labeled, unlabeled
        self._partly_labeled = frozenset(labeled) & frozenset(unlabeled)
        self.views, self.view_spec, self.seed, self.hidden_truth = views, view_spec, seed, hidden_truth
        self.balance = balance

    def locate(self, key: Any) -> str:
        """Location of the image of a draw, which may be given as plain numbers."""
        stream, item = key[:2]
        ids = self.labeled if stream in (Stream.LABELED, Stream.BALANCED) else self.unlabeled
        return self.images.dataset.locate(ids[item])

    def __getitem__(self, draw: Draw) -> Sample:
        rng = sample_rng(self.seed, draw)
        if draw.stream in (Stream.LABELED, Stream.BALANCED):
            image_id = self.labeled[draw.item]
            image = self.images.image(image_id)
            mask = self.images.mask(image_id, image)
            labeled = self.views.labeled(image, mask, rng, strong=self.view_spec.labeled_strong)
            if draw.stream is Stream.BALANCED and self.balance is not None:
                wanted, tries = self.balance.wanted(draw), 1
                while tries < TRIES and not (labeled[1] == wanted).any():
                    labeled = self.views.labeled(image, mask, rng, strong=self.view_spec.labeled_strong)
                    tries += 1
            return Sample(Stream.LABELED, image_id, labeled=labeled)
        image_id = self.unlabeled[draw.item]
        image = self.images.image(image_id)
        views = self.views.unlabeled(
            image,
            rng,
            spec=self.view_spec,
            n_classes=self.images.n_classes,
            truth=self._truth(image_id, image) if draw.stream is Stream.UNLABELED else None,
            known=self.images.mask(image_id, image) if image_id in self._partly_labeled else None,
        )
        return Sample(draw.stream, image_id, views=views)

    def _truth(self, image_id: str, image: np.ndarray) -> np.ndarray | None:
        if not self.hidden_truth:
            return None
        if self.images.dataset.has_mask(image_id):
            return self.images.mask(image_id, image)
        return np.full(image.shape[:2], IGNORE, dtype=np.uint8)


class EvalSamples(Dataset[tuple[str, np.ndarray, np.ndarray]]):
    """(id, image, mask) of whole images, in order."""

    def __init__(self, images: Images, ids: list[str]) -> None:
        self.images, self.ids = images, ids

    def locate(self, key: Any) -> str:
        """Location of the image of an index, or of a list that starts with the index."""
        return self.images.dataset.locate(self.ids[key if isinstance(key, int) else key[0]])

    def __getitem__(self, index: int) -> tuple[str, np.ndarray, np.ndarray]:
        image_id = self.ids[index]
        image = self.images.image(image_id)
        return image_id, image, self.images.mask(image_id, image)


class UnmaskedSamples(EvalSamples):
    """Whole images whose masks are not opened: every pixel is ``IGNORE``."""

    def __getitem__(self, index: int) -> tuple[str, np.ndarray, np.ndarray]:
        image_id = self.ids[index]
        image = self.images.image(image_id)
        return image_id, image, np.full(image.shape[:2], IGNORE, dtype=np.uint8)
