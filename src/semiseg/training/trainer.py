"""Lightning's trainer with the callbacks of a run."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.utilities.exceptions import MisconfigurationException

from semiseg.config.schema import Trainer
from semiseg.config.settings import Settings
from semiseg.errors import InputError
from semiseg.methods.base import SemiMethod
from semiseg.models.checkpointing import checkpoint_activations
from semiseg.models.segmentor import Segmentor
from semiseg.runs.folder import RunFolder
from semiseg.training.assemble import Assembly
from semiseg.training.callbacks.checkpoints import Checkpoints
from semiseg.training.callbacks.diagnostics import Diagnostics
from semiseg.training.callbacks.early_stop import EarlyStop
from semiseg.training.callbacks.ema_teacher import EmaTeacher
from semiseg.training.callbacks.heartbeat import Heartbeat
from semiseg.training.callbacks.lease_guard import LeaseGuard
from semiseg.training.callbacks.metrics_log import MetricsLog
from semiseg.training.callbacks.panels import Panels
from semiseg.training.callbacks.progress import Progress
from semiseg.training.callbacks.pruning import Pruning
from semiseg.training.callbacks.run_record import RunRecord
from semiseg.training.callbacks.step_seed import StepSeed
from semiseg.training.callbacks.step_watch import StepWatch


def build_trainer(
    settings: Settings,
    folder: RunFolder,
    assembly: Assembly,
    *,
    record: RunRecord,
    watch: StepWatch,
    info: dict[str, Any],
) -> pl.Trainer:
    """The trainer of a run; loggers are added when the folder is open.

    Args:
        settings: settings of the trainer.
        folder: where callbacks write.
        assembly: the objects of the run.
        record, watch: callbacks that the caller reads later.
        info: plain metadata for the checkpoints.

    Raises:
        InputError: a device or precision is not available, or the method does not support an option.
    """
    t, dataset = settings.trainer, assembly.data.dataset
    callbacks = [  # the order matters: the record is filled before it is saved
        LeaseGuard(),
        StepSeed(settings.seed),
        watch,
        EmaTeacher(),
        record,
        *([EarlyStop(record, patience, assembly.method)] if (patience := settings.early_stop.patience) else []),
        MetricsLog(t.log_every, settings.diagnostics.warn_after),
        Progress(),
        Heartbeat(folder.progress),
        Checkpoints(folder, record, every=t.save_every, val_every=settings.val_every, info=info, watch=watch),
    ]
    trial = settings.trial
    if trial.number is not None and trial.storage and trial.study:
        callbacks.append(Pruning(record, storage=trial.storage, study=trial.study, number=trial.number))
    if settings.diagnostics.panels:
        callbacks.append(
            Panels(
                folder.images,
                dataset.classes,
                dataset.palette,
                dataset.mean,
                dataset.std,
                assembly.datamodule.val_subset or len(assembly.data.val_ids),
                settings.diagnostics.panels,
            )
        )
    callbacks.append(Diagnostics(folder, dataset.palette, dataset.mean, dataset.std))
    # By default, deterministic mode also fills every new tensor with NaN: a debugging aid that is not needed here.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    try:
        with quiet_lightning():
            return pl.Trainer(
                **assembly.trainer,
                max_steps=assembly.max_steps,
                max_epochs=-1,
                val_check_interval=settings.val_every * t.accumulate,
                check_val_every_n_epoch=None,
                accumulate_grad_batches=t.accumulate,
                gradient_clip_val=t.clip_norm,
                log_every_n_steps=t.log_every,
                logger=False,
                callbacks=callbacks,
                default_root_dir=folder.path,
            )
    except MisconfigurationException as e:
        raise InputError(f"trainer: {e}") from e


def prepare_networks(method: SemiMethod, trainer: Trainer) -> None:
    """Apply memory format, activation checkpointing and compilation in place: checkpoint names do not change."""
    teachers = [pair.teacher for pair in method.teacher_pairs()]
    for network in dict.fromkeys([*method.evaluated().values(), *method.trained(), *teachers]):
        if trainer.channels_last:
            network.to(memory_format=torch.channels_last)
        if not isinstance(network, Segmentor):
            continue
        if trainer.checkpoint_activations:
            checkpoint_activations(network.encoder)
        if trainer.compile:
            network.encoder.compile()
            network.decoder.compile()


@contextmanager
def quiet_lightning() -> Iterator[None]:
    """Suppress Lightning's notices and inapplicable advice; its other warnings are kept."""
    lightning = logging.getLogger("pytorch_lightning")
    level = lightning.level
    lightning.setLevel(logging.WARNING)
    with warnings.catch_warnings():
        for message in (
            "does not have many workers",
            "resuming from a checkpoint",  # our loader starts at the right batch
            "module.s. in eval mode",  # teachers
            "recommended to use .self.log",  # the confusion matrix is already summed over processes
            "isinstance.treespec, LeafSpec",  # Lightning's own use of torch
        ):
            warnings.filterwarnings("ignore", message=f".*{message}.*")
        try:
            yield
        finally:
            lightning.setLevel(level)
