"""From a data set, a partition and views to batches on the device."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, get_worker_info

from semiseg.data.batch import IGNORE, LabeledBatch, SemiBatch, Views, ViewSpec
from semiseg.data.datasets.base import SegmentationDataset
from semiseg.data.loading.sampling import Draw, SemiBatchSampler, Stream, sample_rng
from semiseg.data.views.transforms import TrainViews, UnlabeledViews
from semiseg.errors import InputError, RunFailed


@dataclass
class EvalBatch:
    """B whole images of one size with their labels."""

    images: Tensor  # (B, 3, H, W) float, normalized
    labels: Tensor  # (B, H, W) long in [0, C) or IGNORE
    ids: list[str]

    def to(self, *args: Any, **kwargs: Any) -> EvalBatch:
        """Move every tensor."""
        return EvalBatch(self.images.to(*args, **kwargs), self.labels.to(*args, **kwargs), self.ids)

    def pin_memory(self) -> EvalBatch:
        """Pin every tensor."""
        return EvalBatch(self.images.pin_memory(), self.labels.pin_memory(), self.ids)


class SemiDataModule(pl.LightningDataModule):
    """Training batches that never end, and each validation image once.

    One DataLoader decodes labeled and unlabeled images, so no worker idles. Training starts at the
    trainer's step: a resumed run sees the batches it would have seen. The trainer must have
    ``use_distributed_sampler=False`` (its sampler repeats validation images), and count steps: ``max_steps``,
    ``check_val_every_n_epoch=None``.

    Args:
        dataset: where images and masks come from.
        labeled: ids trained on with their masks; the list repeats when it is shorter than the batches need.
        unlabeled: ids trained on without; their masks are never opened unless ``hidden_truth``.
        val_ids: ids that are evaluated.
        views: how training views are made.
        view_spec: what the method asks of the unlabeled stream; None: the method uses labeled images only.
        batch_labeled: labeled images per step and process.
        batch_unlabeled: unlabeled images per step and process.
        seed: of all orders and views.
        num_workers: decoding processes per loader; 0 decodes in this process. Batches do not depend on it.
        eval_batch: evaluation images per batch; those of one size are stacked.
        hidden_truth: also load the masks of unlabeled images, where there are any, for diagnostics.
        cache: keep decoded images and masks in memory, once per worker. For small data sets.
        channels_last: memory format of the images the method gets.

    Raises:
        InputError: an empty list or a batch size below 1.
    """

    def __init__(
        self,
        dataset: SegmentationDataset,
        labeled: Sequence[str],
        unlabeled: Sequence[str],
        val_ids: Sequence[str],
        views: TrainViews,
        *,
        view_spec: ViewSpec | None,
        batch_labeled: int,
        batch_unlabeled: int,
        seed: int,
        num_workers: int = 0,
        eval_batch: int = 1,
        hidden_truth: bool = False,
        cache: bool = False,
        channels_last: bool = False,
    ) -> None:
        super().__init__()
        lists = {"labeled": labeled, "val": val_ids} | ({} if view_spec is None else {"unlabeled": unlabeled})
        for name, ids in lists.items():
            if len(ids) == 0:
                raise InputError(f"the {name} list of {dataset.name} is empty: expected at least one id")
        sizes = {"batch.labeled": batch_labeled} | ({} if view_spec is None else {"batch.unlabeled": batch_unlabeled})
        for name, size in sizes.items():
            if size < 1:
                raise InputError(f"{name} is {size}: expected at least 1 image per step and process")
        if eval_batch < 1:
            raise InputError(f"eval_batch is {eval_batch}: expected at least 1 image")
        self.dataset = dataset
        self.labeled, self.unlabeled, self.val_ids = list(labeled), list(unlabeled), list(val_ids)
        self.view_spec = view_spec
        self.batch_labeled, self.batch_unlabeled = batch_labeled, batch_unlabeled
        self.seed, self.num_workers, self.eval_batch = seed, num_workers, eval_batch
        self._loaders: list[_Loader] = []
        self._images = _Images(dataset, keep=cache)
        self._samples = _TrainSamples(
            self._images, self.labeled, self.unlabeled, views, view_spec or ViewSpec(), seed, hidden_truth
        )
        self._memory_format = torch.channels_last if channels_last else torch.contiguous_format
        self._mean = 255 * torch.tensor(dataset.mean, dtype=torch.float32).view(3, 1, 1)
        self._std = 255 * torch.tensor(dataset.std, dtype=torch.float32).view(3, 1, 1)

    def close(self) -> None:
        """End the data workers. Lightning leaves those of training alive when a run ends inside a validation."""
        for loader in self._loaders:
            loader.close()
        self._loaders = []

    @property
    def needs_unlabeled(self) -> bool:
        """Whether batches have an unlabeled part."""
        return self.view_spec is not None

    def train_dataloader(self) -> DataLoader:
        """Endless batches from the trainer's current step on."""
        trainer = self.trainer
        sampler = SemiBatchSampler(
            len(self.labeled),
            len(self.unlabeled) if self.needs_unlabeled else 0,
            batch_labeled=self.batch_labeled,
            batch_unlabeled=self.batch_unlabeled,
            seed=self.seed,
            partner=self.view_spec.partner if self.view_spec else "flip",
            rank=self._rank,
            world_size=self._world_size,
            start_step=trainer.global_step * trainer.accumulate_grad_batches if trainer else 0,
        )
        return self._loader(self._samples, batch_sampler=sampler, collate_fn=_collate_train)

    def val_dataloader(self) -> DataLoader:
        """Lists of ``EvalBatch``, ``eval_batch`` images together; over all ranks each image once."""
        # A rank may get one image more than another: no collective may sit inside a validation step.
        mine = self.val_ids[self._rank :: self._world_size]
        samples, n = _EvalSamples(self._images, mine), self.eval_batch
        # A rank without images gets one empty batch: Lightning would leave its validation out, and the others would
        # wait for its counts.
        batches = [list(range(len(mine)))[i : i + n] for i in range(0, max(len(mine), 1), n)]
        return self._loader(samples, batch_sampler=batches, collate_fn=_collate_eval)

    def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:
        """Move a training batch, or the list of evaluation batches, without waiting for it."""
        if isinstance(batch, list):
            return [part.to(device, non_blocking=True) for part in batch]
        return batch.to(device, non_blocking=True)

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        """Normalize images and widen labels on the device: a quarter of the bytes have crossed the bus."""
        if isinstance(batch, list):
            return [EvalBatch(self._normalize(part.images), part.labels.long(), part.ids) for part in batch]
        batch.labeled, batch.labels = self._normalize(batch.labeled), batch.labels.long()
        for views in (batch.unlabeled, batch.partner) if isinstance(batch, SemiBatch) else ():
            if views is not None:
                views.weak = self._normalize(views.weak)
                n_views_images = views.strong.shape[:2]
                views.strong = self._normalize(views.strong.flatten(0, 1)).unflatten(0, n_views_images)
                views.truth = None if views.truth is None else views.truth.long()
        return batch

    def _normalize(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) uint8 -> float with the data set's mean and deviation removed."""
        if self._mean.device != images.device:
            self._mean, self._std = self._mean.to(images.device), self._std.to(images.device)
        # The copy to float sets the memory format, so it costs nothing.
        return images.to(torch.float32, memory_format=self._memory_format).sub_(self._mean).div_(self._std)

    def _loader(self, samples: _TrainSamples | _EvalSamples, **kwargs: Any) -> DataLoader:
        loader = _Loader(
            _Watched(samples, self.num_workers),
            num_workers=self.num_workers,
            persistent_workers=self.num_workers > 0,
            pin_memory=self.trainer is not None and self.trainer.strategy.root_device.type == "cuda",
            # A loader draws a seed for its workers. Ours do not use it; drawing it from torch's global
            # generator would make the method's own randomness depend on how often validation ran.
            generator=torch.Generator(),
            worker_init_fn=_start_worker,
            **kwargs,
        )
        self._loaders.append(loader)
        return loader

    @property
    def _rank(self) -> int:
        return self.trainer.global_rank if self.trainer else 0

    @property
    def _world_size(self) -> int:
        return self.trainer.world_size if self.trainer else 1


def _start_worker(index: int) -> None:
    # Ctrl-C and a cluster's notice reach every process of the group: the main one decides, workers end with it.
    for notice in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):
        signal.signal(notice, signal.SIG_IGN)


class _Loader(DataLoader):
    """A DataLoader whose errors name the image: one line, without a traceback, for wrong input."""

    dataset: _Watched

    def close(self) -> None:
        """Ask the workers to end. They ignore SIGTERM, so the end of this process would wait for them for ever."""
        if self._iterator is not None:
            self._iterator._shutdown_workers()  # type: ignore[attr-defined]
            self._iterator = None

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]  # DataLoader names its own iterator class
        return self._with_plain_errors(super().__iter__())

    def _with_plain_errors(self, batches: Iterator[Any]) -> Iterator[Any]:
        try:
            yield from batches
        except (InputError, RunFailed) as error:
            # torch puts the traceback before the message, in one string.
            kind = type(error)
            raise kind(str(error).rsplit(f"{kind.__qualname__}: ", 1)[-1].rstrip()) from None
        except RuntimeError as error:
            if dead := re.search(r"worker \(pid\(?s?\)? ([\d, ]+)\)", str(error)):
                places = self.dataset.in_hand([int(pid) for pid in dead[1].split(",")])
                raise RunFailed(
                    f"a data worker ended while it read {places}: a file that crashes its decoder, or too little "
                    f"memory (loader.num_workers=0 shows which); {str(error).splitlines()[0]}"
                ) from error
            raise


class _Watched(Dataset):
    """Samples that name their image when one cannot be made, even if the worker dies of it.

    Args:
        samples: with ``locate``: key of a sample -> where its image lies.
        num_workers: of the loader.
    """

    def __init__(self, samples: _TrainSamples | _EvalSamples, num_workers: int) -> None:
        self.samples = samples
        # One row a worker, in shared memory: its process id, and the key of the sample in hand.
        self._rows = torch.full((max(num_workers, 1), 4), -1).share_memory_()

    def __getitem__(self, key: Any) -> Any:
        if (worker := get_worker_info()) is not None:
            numbers = [os.getpid(), *(key if isinstance(key, tuple) else (key,))]
            self._rows[worker.id, : len(numbers)] = torch.tensor(numbers)
        try:
            return self.samples[key]
        except (InputError, RunFailed):
            raise
        except Exception as e:
            raise RunFailed(f"{self.samples.locate(key)}: {type(e).__name__}: {e}") from e

    def in_hand(self, pids: list[int]) -> str:
        """Where the images lie that these workers were reading."""
        rows = [row for row in self._rows.tolist() if row[0] in pids]
        return " or ".join(self.samples.locate(row[1:]) for row in rows) or "an image"


class _Images:
    """Images and masks of a data set, checked against each other, kept after the first use on request."""

    def __init__(self, dataset: SegmentationDataset, *, keep: bool) -> None:
        self.dataset = dataset
        self.n_classes = len(dataset.classes)
        self._kept: dict[tuple[Callable, str], np.ndarray] | None = {} if keep else None

    def image(self, image_id: str) -> np.ndarray:
        """(H, W, 3) uint8."""
        return self._load(self.dataset.load_image, image_id)

    def mask(self, image_id: str, image: np.ndarray) -> np.ndarray:
        """(H, W) uint8, the mask of an image that is at hand."""
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
class _Sample:
    """What a worker makes of a draw: ``labeled`` for the labeled stream, ``views`` for the others."""

    stream: Stream
    image_id: str
    labeled: tuple[np.ndarray, np.ndarray] | None = None
    views: UnlabeledViews | None = None


class _TrainSamples(Dataset[_Sample]):
    """Samples by draw."""

    def __init__(
        self,
        images: _Images,
        labeled: list[str],
        unlabeled: list[str],
        views: TrainViews,
        view_spec: ViewSpec,
        seed: int,
        hidden_truth: bool,
    ) -> None:
        self.images, self.labeled, self.unlabeled = images, labeled, unlabeled
        self.views, self.view_spec, self.seed, self.hidden_truth = views, view_spec, seed, hidden_truth

    def locate(self, key: Any) -> str:
        """Where the image of a draw, or of its plain numbers, lies."""
        stream, item = key[:2]
        ids = self.labeled if stream == Stream.LABELED else self.unlabeled
        return self.images.dataset.locate(ids[item])

    def __getitem__(self, draw: Draw) -> _Sample:
        rng = sample_rng(self.seed, draw)
        if draw.stream is Stream.LABELED:
            image_id = self.labeled[draw.item]
            image = self.images.image(image_id)
            mask = self.images.mask(image_id, image)
            labeled = self.views.labeled(image, mask, rng, strong=self.view_spec.labeled_strong)
            return _Sample(draw.stream, image_id, labeled=labeled)
        image_id = self.unlabeled[draw.item]
        image = self.images.image(image_id)
        views = self.views.unlabeled(
            image,
            rng,
            spec=self.view_spec,
            n_classes=self.images.n_classes,
            truth=self._truth(image_id, image) if draw.stream is Stream.UNLABELED else None,
        )
        return _Sample(draw.stream, image_id, views=views)

    def _truth(self, image_id: str, image: np.ndarray) -> np.ndarray | None:
        if not self.hidden_truth:
            return None
        if self.images.dataset.has_mask(image_id):
            return self.images.mask(image_id, image)
        return np.full(image.shape[:2], IGNORE, dtype=np.uint8)


class _EvalSamples(Dataset[tuple[str, np.ndarray, np.ndarray]]):
    """(id, image, mask) of whole images, in order."""

    def __init__(self, images: _Images, ids: list[str]) -> None:
        self.images, self.ids = images, ids

    def locate(self, key: Any) -> str:
        """Where the image of an index, or of a list that starts with it, lies."""
        return self.images.dataset.locate(self.ids[key if isinstance(key, int) else key[0]])

    def __getitem__(self, index: int) -> tuple[str, np.ndarray, np.ndarray]:
        image_id = self.ids[index]
        image = self.images.image(image_id)
        return image_id, image, self.images.mask(image_id, image)


def _collate_train(samples: list[_Sample]) -> LabeledBatch:
    images, labels = zip(*(sample.labeled for sample in samples if sample.labeled is not None))
    labeled = LabeledBatch(
        _stack_images(images),
        torch.from_numpy(np.stack(labels)),
        [sample.image_id for sample in samples if sample.stream is Stream.LABELED],
    )
    unlabeled = _collate_views(samples, Stream.UNLABELED)
    if unlabeled is None:
        return labeled
    return SemiBatch(**vars(labeled), unlabeled=unlabeled, partner=_collate_views(samples, Stream.PARTNER))


def _collate_views(samples: list[_Sample], stream: Stream) -> Views | None:
    views = [sample.views for sample in samples if sample.stream is stream and sample.views is not None]
    if not views:
        return None
    truths = [v.truth for v in views if v.truth is not None]
    return Views(
        weak=_stack_images([v.weak for v in views]),
        strong=_stack_images([v.strong for v in views], axis=1),
        padded=torch.from_numpy(np.stack([v.padded for v in views])),
        boxes=torch.from_numpy(np.stack([v.boxes for v in views], axis=1)),
        class_scores=torch.from_numpy(np.stack([v.class_scores for v in views], axis=1)),
        ids=[sample.image_id for sample in samples if sample.stream is stream],
        truth=torch.from_numpy(np.stack(truths)) if truths else None,
    )


def _collate_eval(samples: list[tuple[str, np.ndarray, np.ndarray]]) -> list[EvalBatch]:
    """One ``EvalBatch`` for each size among the samples, in the order in which the sizes appear."""
    sizes: dict[tuple[int, ...], list[tuple[str, np.ndarray, np.ndarray]]] = {}
    for sample in samples:
        sizes.setdefault(sample[2].shape, []).append(sample)
    return [
        EvalBatch(_stack_images(images), torch.from_numpy(np.stack(masks)), list(ids))
        for ids, images, masks in (zip(*group) for group in sizes.values())
    ]


def _stack_images(images: Sequence[np.ndarray], axis: int = 0) -> Tensor:
    """(..., H, W, 3) arrays -> one (..., 3, H, W) uint8 tensor: a view, the pixels stay interleaved."""
    return torch.from_numpy(np.stack(images, axis=axis)).movedim(-1, -3)
