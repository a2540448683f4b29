"""Lightning data module: from a data set, a partition and views to batches on the device."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from semiseg.data.batch import SemiBatch, ViewSpec
from semiseg.data.datasets.base import SegmentationDataset
from semiseg.data.loading.balance import ClassBalance
from semiseg.data.loading.collate import EvalBatch, collate_eval, collate_train
from semiseg.data.loading.loader import Loader, Watched, dead_workers, start_worker
from semiseg.data.loading.samples import EvalSamples, Images, TrainSamples, UnmaskedSamples
from semiseg.data.loading.sampling import EvalSampler, SemiBatchSampler, spread
from semiseg.data.views.transforms import TrainViews
from semiseg.errors import InputError


class SemiDataModule(pl.LightningDataModule):
    """Endless training batches, and each validation image once.

    One DataLoader decodes labeled and unlabeled images, so no worker idles. Training starts at the
    trainer's step, so a resumed run sees the same batches as an uninterrupted one. The trainer must use
    ``use_distributed_sampler=False`` (its sampler repeats validation images), and count steps: ``max_steps``,
    ``check_val_every_n_epoch=None``.

    Args:
        dataset: source of images and masks.
        labeled: ids trained on with their masks; repeated if shorter than a batch.
        unlabeled: ids trained on without masks; these are never opened unless ``hidden_truth``. An id on both lists is
            partly labeled: its pixels without a label are treated as unlabeled.
        val_ids: ids that are evaluated.
        views: creates the training views.
        view_spec: what the method requires of the unlabeled stream; None: the method uses labeled images only.
        batch_labeled: labeled images per step and process.
        batch_unlabeled: unlabeled images per step and process.
        seed: seed of all sampling orders and views.
        num_workers: decoding processes per loader; 0 decodes in this process. Batches do not depend on it.
        eval_batch: evaluation images per batch; images of the same size are stacked.
        val_subset: number of images in every validation before the last step, the same ones each time; None: all.
        hidden_truth: also load the masks of unlabeled images, if available, for diagnostics.
        cache: True: keep decoded images and masks in memory, once per worker, for small data sets. A folder: cache
            decoded images there, shared by all workers; see :class:`ImageCache`.
        channels_last: use the channels-last memory format for the images that the method receives.
        balance: chooses labeled images by class; None: each equally often.

    Raises:
        InputError: for an empty list or a batch size below 1.
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
        val_subset: int | None = None,
        hidden_truth: bool = False,
        cache: bool | str | Path = False,
        channels_last: bool = False,
        balance: ClassBalance | None = None,
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
        self.val_subset = val_subset if val_subset and val_subset < len(self.val_ids) else None
        self._loaders: list[Loader] = []
        self._images = Images(dataset, cache=cache)
        self._samples = TrainSamples(
            self._images, self.labeled, self.unlabeled, views, view_spec or ViewSpec(), seed, hidden_truth, balance
        )
        self.balance = balance
        self._memory_format = torch.channels_last if channels_last else torch.contiguous_format
        self._mean = 255 * torch.tensor(dataset.mean, dtype=torch.float32).view(-1, 1, 1)
        self._std = 255 * torch.tensor(dataset.std, dtype=torch.float32).view(-1, 1, 1)

    def close(self) -> None:
        """Stop the data workers. Lightning keeps the training workers alive if a run ends during a validation."""
        for loader in self._loaders:
            loader.close()
        self._loaders = []

    def explain(self, error: BaseException) -> BaseException:
        """The error itself, or, if it reports a dead data worker, one that names the image."""
        pids = dead_workers(error)
        loaders = [loader for loader in self._loaders if loader.dataset.rows_of(pids)] if pids else []
        return loaders[0].ended(pids, error) if loaders else error

    @property
    def needs_unlabeled(self) -> bool:
        """Whether batches have an unlabeled part."""
        return self.view_spec is not None

    def train_dataloader(self) -> DataLoader:
        """Endless batches, starting at the trainer's current step."""
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
            labeled_draws=self.balance.draws if self.balance else None,
        )
        return self._loader(self._samples, batch_sampler=sampler, collate_fn=collate_train)

    def whole_unlabeled(self, device: torch.device) -> Iterator[EvalBatch]:
        """Each unlabeled image of this rank once, whole and normalized, without labels.

        For a method that ranks them between two steps. Ranks may get different numbers of images, so no collective
        may run between two batches.
        """
        mine, n = self.unlabeled[self._rank :: self._world_size], self.eval_batch
        batches = [list(range(len(mine)))[i : i + n] for i in range(0, len(mine), n)]
        loader = self._loader(UnmaskedSamples(self._images, mine), batch_sampler=batches, collate_fn=collate_eval)
        for groups in loader:
            yield from self.on_after_batch_transfer(self.transfer_batch_to_device(groups, device, 0), 0)
        loader.close()
        self._loaders.remove(loader)

    def val_dataloader(self) -> DataLoader:
        """Lists of ``EvalBatch`` with ``eval_batch`` images in total; each image once across all ranks."""
        sampler = EvalSampler(self.eval_batches, len(self._in_batches(range(len(self.val_ids)))))
        return self._loader(EvalSamples(self._images, self.val_ids), batch_sampler=sampler, collate_fn=collate_eval)

    @property
    def validates_all(self) -> bool:
        """Whether a validation now uses all images: always without ``val_subset``, otherwise after the last step."""
        trainer = self.trainer
        in_training = trainer is not None and trainer.state.fn == "fit" and trainer.global_step < trainer.max_steps
        return self.val_subset is None or not in_training

    def eval_batches(self) -> list[list[int]]:
        """Batches of positions in ``val_ids`` that a validation now evaluates on this rank."""
        n = len(self.val_ids)
        return self._in_batches(range(n) if self.validates_all else spread(n, self.val_subset or n))

    def _in_batches(self, positions: Sequence[int]) -> list[list[int]]:
        # A rank may get one image more than another, so no collective may run inside a validation step.
        mine, n = list(positions[self._rank :: self._world_size]), self.eval_batch
        # A rank without images gets one empty batch: Lightning would skip its validation while the others wait for its
        # counts.
        return [mine[i : i + n] for i in range(0, max(len(mine), 1), n)]

    def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:
        """Move a training batch, or the list of evaluation batches, asynchronously."""
        if isinstance(batch, list):
            return [part.to(device, non_blocking=True) for part in batch]
        return batch.to(device, non_blocking=True)

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        """Normalize images and widen labels on the device, so only a quarter of the bytes are transferred."""
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
        """(B, 3, H, W) uint8 -> float, normalized with the data set's mean and standard deviation."""
        if self._mean.device != images.device:
            self._mean, self._std = self._mean.to(images.device), self._std.to(images.device)
        # The conversion to float also sets the memory format, at no extra cost.
        return images.to(torch.float32, memory_format=self._memory_format).sub_(self._mean).div_(self._std)

    def _loader(self, samples: TrainSamples | EvalSamples, **kwargs: Any) -> Loader:
        loader = Loader(
            Watched(samples, self.num_workers),
            num_workers=self.num_workers,
            persistent_workers=self.num_workers > 0,
            pin_memory=self.trainer is not None and self.trainer.strategy.root_device.type == "cuda",
            # A loader draws a seed for its workers. Ours do not use it, but drawing it from torch's global
            # generator would make the method's randomness depend on how often validation ran.
            generator=torch.Generator(),
            worker_init_fn=start_worker,
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
