"""From a composed configuration to the objects of a run."""

from __future__ import annotations

import logging
import os
import secrets
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from hydra.errors import InstantiationException
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from pytorch_lightning.utilities.exceptions import MisconfigurationException
from pytorch_lightning.utilities.rank_zero import rank_zero_only

from semiseg.config.make import make, partition_args
from semiseg.config.trust import check_trusted
from semiseg.data.datasets.base import SegmentationDataset
from semiseg.data.loading.datamodule import SemiDataModule
from semiseg.data.partitions.splits import Partition, make_partition
from semiseg.errors import InputError
from semiseg.methods.base import Parts, SemiMethod
from semiseg.training.callbacks.checkpoints import Checkpoints
from semiseg.training.callbacks.csv_logger import CsvLogger
from semiseg.training.callbacks.ema_teacher import EmaTeacher
from semiseg.training.callbacks.heartbeat import Heartbeat
from semiseg.training.callbacks.metrics_log import MetricsLog
from semiseg.training.callbacks.panels import Panels
from semiseg.training.callbacks.progress import Progress
from semiseg.training.callbacks.pruning import Pruning
from semiseg.training.callbacks.run_record import RunRecord
from semiseg.training.callbacks.step_seed import StepSeed
from semiseg.training.callbacks.step_watch import StepWatch
from semiseg.training.normalization import follow_encoder

log = logging.getLogger(__name__)


def build_dataset(cfg: DictConfig) -> SegmentationDataset:
    """The data set; also fills ``num_classes``, which other nodes refer to."""
    dataset = make(cfg, "data")
    cfg.num_classes = len(dataset.classes)
    follow_encoder(dataset, cfg.model)
    return dataset


def build_partition(cfg: DictConfig, dataset: SegmentationDataset) -> Partition:
    """The labeled and unlabeled ids of the protocol."""
    return make_partition(dataset, **partition_args(cfg))


def build_method(cfg: DictConfig, classes: Sequence[str]) -> SemiMethod:
    """The method with its networks, on the CPU."""
    parts = Parts(
        network=partial(make, cfg, "model"),
        classes=classes,
        sup_loss=make(cfg, "loss"),
        optim=make(cfg, "optim"),
        inference=make(cfg, "eval"),
        max_steps=cfg.max_steps or 1,  # a finished run that counted epochs
        crop_size=(cfg.crop_size[0], cfg.crop_size[1]),
    )
    # As a partial: instantiate would take the dataclass for a configuration.
    factory = make(cfg, "method", _partial_=True)
    try:
        return factory(parts)
    except ValueError as e:
        raise e if isinstance(e, InputError) else InputError(f"method: {e}") from e


def build_datamodule(
    cfg: DictConfig, dataset: SegmentationDataset, partition: Partition, method: SemiMethod
) -> SemiDataModule:
    """Loaders for training and validation, as the method asks for them."""
    return SemiDataModule(
        dataset,
        labeled=partition.labeled,
        unlabeled=partition.unlabeled,
        val_ids=dataset.ids(cfg.protocol.val_split),
        views=make(cfg, "transforms"),
        view_spec=method.view_spec,
        batch_labeled=cfg.batch.labeled,
        batch_unlabeled=cfg.batch.unlabeled,
        seed=cfg.seed,
        num_workers=cfg.loader.num_workers,
        eval_batch=cfg.loader.eval_batch,
        hidden_truth=cfg.diagnostics.pseudo_labels,
        channels_last=cfg.trainer.channels_last,
        cache=cfg.loader.cache,
    )


def build_loggers(cfg: DictConfig, run_dir: Path) -> list[Any]:
    """CSV always; what ``logger=`` asks for besides."""
    check_trusted(cfg.logger, "logger", stored=False)
    loggers: list[Any] = [CsvLogger(run_dir / "metrics.csv")]
    for name, node in cfg.logger.items():
        place: dict[str, Any] = {"save_dir": str(run_dir)}
        if name == "wandb":
            place |= wandb_settings(cfg, run_dir)
        elif name == "tensorboard":
            place |= {"name": "tensorboard", "version": ""}
        try:
            logger = instantiate(node, _partial_=True, _convert_="all")(**place)
            _ = logger.experiment  # opens it now: a wrong setting is told before anything is trained
            loggers.append(logger)
        except ValueError as e:  # pydantic's among them, of wandb
            raise InputError(f"logger={name}: {' '.join(str(e).split())[:200]}") from e
        except (InstantiationException, ModuleNotFoundError) as e:
            raise InputError(f"logger={name}: {e.__cause__ or e}; install it with pip install semiseg[{name}]") from e
    return loggers


def wandb_settings(cfg: DictConfig, run_dir: Path) -> dict[str, Any]:
    """Name, id, tags and configuration of the wandb run of a folder: what its pages can group by.

    A resumed run goes on with the same id. Offline that is a second folder with the same id, since wandb cannot resume
    without its server; ``wandb sync --append`` puts both into one run, with ``trainer/global_step`` as x axis.
    """
    data, _, partition = cfg.protocol.name.partition("/")
    names = {
        "study": cfg.study, "data": data, "partition": partition, "method": cfg.choices.method,
        "model": cfg.choices.model, "seed": cfg.seed,
    }  # fmt: skip
    settings: Any = OmegaConf.to_container(cfg, resolve=True)
    return {
        "name": "/".join(run_dir.parts[-5:]),
        "id": wandb_id(run_dir, anew=cfg.overwrite),
        "resume": "allow",
        "tags": [cfg.protocol.name, cfg.choices.method, cfg.choices.model, f"seed_{cfg.seed}"],
        "config": {**settings, "names": names},
    }


def wandb_id(run_dir: Path, *, anew: bool) -> str:
    """The id of the folder's wandb run, kept in ``wandb_id.txt``; a run that starts anew gets another."""
    if getattr(rank_zero_only, "rank", 0):
        return ""  # only the first process has a wandb run
    if of_agent := os.environ.get("WANDB_RUN_ID"):
        return of_agent  # a wandb agent knows its runs by it
    path = run_dir / "wandb_id.txt"
    if anew or not path.exists():
        path.write_text(secrets.token_hex(6) + "\n")
    return path.read_text().strip()


def build_trainer(
    cfg: DictConfig,
    run_dir: Path,
    dataset: SegmentationDataset,
    *,
    record: RunRecord,
    watch: StepWatch,
    info: dict[str, Any],
) -> pl.Trainer:
    """Lightning's trainer with our callbacks; order matters: the record is filled before it is saved."""
    t = cfg.trainer
    callbacks = [
        StepSeed(cfg.seed),
        watch,
        EmaTeacher(),
        record,
        MetricsLog(t.log_every, cfg.diagnostics.warn_after),
        Progress(),
        Heartbeat(run_dir / "progress.json"),
        Checkpoints(
            run_dir / "checkpoints", record, every=t.save_every, val_every=cfg.val_every, info=info, watch=watch
        ),
    ]
    if cfg.trial.number is not None:
        callbacks.append(Pruning(record, **cfg.trial))
    if cfg.diagnostics.panels:
        callbacks.append(
            Panels(
                run_dir / "images",
                dataset.classes,
                dataset.palette,
                dataset.mean,
                dataset.std,
                len(dataset.ids(cfg.protocol.val_split)),
                cfg.diagnostics.panels,
            )
        )
    # Deterministic algorithms also fill every new tensor with NaN unless told otherwise: a check, not a need.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    try:
        return pl.Trainer(
            **trainer_basics(cfg),
            max_steps=cfg.max_steps,
            max_epochs=-1,
            val_check_interval=cfg.val_every * t.accumulate,
            check_val_every_n_epoch=None,
            accumulate_grad_batches=t.accumulate,
            gradient_clip_val=t.clip_norm,
            log_every_n_steps=t.log_every,
            logger=False,  # added when the folder is open
            callbacks=callbacks,
            default_root_dir=run_dir,
        )
    except MisconfigurationException as e:
        raise InputError(f"trainer: {e}") from e


def trainer_basics(cfg: DictConfig) -> dict[str, Any]:
    """Trainer arguments that training and evaluation share."""
    t = cfg.trainer
    distributed = t.devices * t.num_nodes > 1
    no_gpu = t.accelerator == "cpu" or (t.accelerator == "auto" and not torch.cuda.is_available())
    if t.sync_batchnorm and distributed and no_gpu:
        log.warning("trainer.sync_batchnorm=true has no effect on a CPU: every process has statistics of its own batch")
    return {
        "accelerator": t.accelerator,
        "devices": t.devices,
        "num_nodes": t.num_nodes,
        "strategy": "ddp" if distributed else "auto",
        "precision": t.precision,
        "sync_batchnorm": t.sync_batchnorm and distributed and not no_gpu,
        "deterministic": t.deterministic,
        "num_sanity_val_steps": 0,
        "use_distributed_sampler": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
    }
