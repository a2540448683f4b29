"""Builds the objects of a run from checked settings, in a fixed order: seed, data, method, loaders."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch

from semiseg.config.rules import check_sizes
from semiseg.config.settings import Settings
from semiseg.data.batch import ViewSpec
from semiseg.data.checking.start import data_warnings, few_labels, partly_labeled, quick_check
from semiseg.data.loading.balance import ClassBalance
from semiseg.data.loading.datamodule import SemiDataModule
from semiseg.data.views.transforms import TrainViews
from semiseg.errors import InputError
from semiseg.methods.base import Parts, SemiMethod
from semiseg.runs.data import RunData, open_data, with_pseudo_labels
from semiseg.training.normalization import follow_encoder, measure_channels
from semiseg.training.rare_classes import class_balance, with_class_weights
from semiseg.training.start_from import Source, read_source

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Assembly:
    """The objects of a run.

    Attributes:
        data: the data set, its labeled images, and its validation images.
        method: the method with its networks, on the CPU.
        datamodule: loaders for training and validation, as the method requires.
        max_steps: optimizer steps of the run.
        trainer: arguments of Lightning's trainer shared by training and evaluation.
        warnings: possible problems with the data, one line each; only with ``check_files``.
        notes: messages for the startup summary about choices based on the data, by configuration key.
    """

    data: RunData
    method: SemiMethod
    datamodule: SemiDataModule
    max_steps: int
    trainer: dict[str, Any]
    warnings: tuple[str, ...] = ()
    notes: Mapping[str, str] = field(default_factory=dict)


def assemble(settings: Settings, data: RunData | None = None, *, check_files: bool = False) -> Assembly:
    """Build the objects of a run. Random numbers are drawn in the same order at every call.

    Args:
        settings: not modified; values from the data (number of classes, steps per epoch) are passed separately.
        data: the data, if already listed.
        check_files: open labeled and validation images to find mistakes that would fail the run late.

    Raises:
        InputError: data and settings do not fit together.
    """
    source = None if settings.init is None else read_source(settings.init, assemble_method)
    pl.seed_everything(settings.seed, verbose=False)  # initial weights
    data = data or list_data(settings)
    if source is not None:
        source.follow(data.dataset)
    warnings: list[str] = []
    if check_files:
        largest = quick_check(data.dataset, data.partition, data.val_ids)
        if any(largest):
            check_sizes(settings.resolved, largest)
        warnings = data_warnings(data.dataset, data.partition, data.val_ids)
        if data.pseudo_labels is not None:
            warnings.insert(0, data.pseudo_labels.told())
        if data.fold is None:
            warnings += few_labels(data.partition, data.val_ids)
        if source is not None:
            warnings += source.doubt(data.record)
    max_steps = steps_of_run(settings, data)
    loss, weights = with_class_weights(settings.make.loss(), data)
    balance, law = class_balance(data, settings.seed)
    method = assemble_method(settings, data.dataset.classes, max_steps, source=source, loss=loss)
    both = partly_labeled(data.dataset, data.partition)
    datamodule = assemble_loaders(settings, data, method.view_spec, partly_labeled=both, balance=balance)
    started = "" if source is None else source.describe(data.dataset.classes)
    notes = {key: said for key, said in (("init", started), ("loss", weights), ("balance", law)) if said}
    return Assembly(data, method, datamodule, max_steps, trainer_arguments(settings), tuple(warnings), notes)


def list_data(settings: Settings) -> RunData:
    """List the images of the run without opening them."""
    data = open_data(settings.make.dataset, settings.partition, settings.val_split, settings.fold)
    if settings.channels != 3:
        measure_channels(data.dataset, data.partition.labeled, data.partition.unlabeled)
    elif settings.encoder is not None:
        follow_encoder(data.dataset, settings.encoder, settings.weights)
    return data if settings.pseudo_labels is None else with_pseudo_labels(data, Path(settings.pseudo_labels))


def assemble_method(
    settings: Settings,
    classes: Sequence[str],
    max_steps: int = 1,
    *,
    source: Source | None = None,
    loss: Callable[..., Any] | None = None,
) -> SemiMethod:
    """The method with its networks, on the CPU: everything needed for prediction.

    Args:
        settings: define method, model, loss, optimizer and inference.
        classes: names in the order of the label values.
        max_steps: optimizer steps of the run, for schedules.
        source: an earlier model that the networks start from.
        loss: the supervised loss; None: as in the settings.
    """
    more = {} if settings.channels == 3 else {"in_channels": settings.channels}
    parts = Parts(
        network=partial(settings.make.network, num_classes=len(classes), **more),
        classes=classes,
        sup_loss=loss or settings.make.loss(),
        optim=settings.make.optim(max_steps=max_steps),
        inference=settings.make.inference(),
        max_steps=max_steps,
        crop_size=settings.crop_size,
    )
    try:
        make = settings.make.method()
        if source is None:
            return make(parts)
        none_read = {} if settings.encoder is None else {"weights": "none"}
        return source.start(make, parts, settings.resolved, partial(parts.network, **none_read))
    except ValueError as e:
        raise e if isinstance(e, InputError) else InputError(f"method: {e}") from e


def make_views(settings: Settings) -> TrainViews:
    """The training views.

    Raises:
        InputError: the transforms require color images, and the images are not RGB.
    """
    views: TrainViews = settings.make.transforms()
    if settings.channels != 3 and type(views) is not TrainViews:
        raise InputError(
            f"data.channels={settings.channels}: these transforms are defined for the three channels of a color image; "
            "use transforms=default"
        )
    return views


def assemble_loaders(
    settings: Settings,
    data: RunData,
    view_spec: ViewSpec | None,
    *,
    partly_labeled: Sequence[str] = (),
    balance: ClassBalance | None = None,
) -> SemiDataModule:
    """Loaders for training and validation; no image is opened.

    Args:
        settings: define batches and views.
        data: the images.
        view_spec: what the method requires of the unlabeled images.
        partly_labeled: labeled images that are also learned from as unlabeled ones.
        balance: how labeled images are drawn.

    Raises:
        InputError: an empty list, or an empty batch.
    """
    return SemiDataModule(
        data.dataset,
        labeled=data.partition.labeled,
        unlabeled=[*data.partition.unlabeled, *partly_labeled],
        val_ids=data.val_ids,
        views=make_views(settings),
        view_spec=view_spec,
        batch_labeled=settings.batch.labeled,
        batch_unlabeled=settings.batch.unlabeled,
        seed=settings.seed,
        num_workers=settings.loader.num_workers,
        eval_batch=settings.loader.eval_batch,
        val_subset=settings.val_subset,
        hidden_truth=settings.diagnostics.pseudo_labels,
        channels_last=settings.trainer.channels_last,
        cache=settings.loader.cache,
        balance=balance,
    )


def steps_of_run(settings: Settings, data: RunData) -> int:
    """Optimizer steps of a run."""
    return settings.max_steps or (settings.epochs or 1) * steps_per_epoch(settings, data)


def steps_per_epoch(settings: Settings, data: RunData) -> int:
    """Whole batches in the unlabeled list, even for a method that does not use it, so that all take equal steps."""
    per_step = settings.processes * settings.trainer.accumulate
    labeled, unlabeled = len(data.partition.labeled), len(data.partition.unlabeled)
    if unlabeled and settings.batch.unlabeled:
        return max(1, unlabeled // (settings.batch.unlabeled * per_step))
    return max(1, labeled // (settings.batch.labeled * per_step))


def trainer_arguments(settings: Settings) -> dict[str, Any]:
    """Arguments of Lightning's trainer shared by training and evaluation."""
    t = settings.trainer
    several = settings.processes > 1
    no_gpu = t.accelerator == "cpu" or (t.accelerator == "auto" and not torch.cuda.is_available())
    if t.sync_batchnorm and several and no_gpu:
        log.warning("trainer.sync_batchnorm=true has no effect on a CPU: statistics are per process")
    return {
        "accelerator": t.accelerator,
        "devices": t.devices,
        "num_nodes": t.num_nodes,
        "strategy": "ddp" if several else "auto",
        "precision": t.precision,
        "sync_batchnorm": t.sync_batchnorm and several and not no_gpu,
        "deterministic": t.deterministic,
        "num_sanity_val_steps": 0,
        "use_distributed_sampler": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
    }
