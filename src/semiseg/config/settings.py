"""The composed configuration as plain values and factories: layers below do not depend on Hydra or OmegaConf."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from omegaconf import DictConfig

from semiseg.arguments import mask_config
from semiseg.config.check import apply_overrides
from semiseg.config.make import fold_of, make, make_logger, partition_args
from semiseg.config.rules import sides
from semiseg.config.schema import Batch, Diagnostics, EarlyStop, Loader, Trainer, Trial
from semiseg.config.stored import for_use, plain
from semiseg.config.validate import check_config
from semiseg.data.partitions.folds import Fold
from semiseg.data.partitions.splits import PartitionArgs


@dataclass(frozen=True)
class Factories:
    """Create the objects named in the configuration; properties of the data are passed as arguments.

    Attributes:
        dataset: () -> the data set.
        network: (num_classes=n) -> a newly initialized network.
        method: () -> a factory that builds the method with its networks from the parts.
        loss: () -> the supervised loss.
        optim: (max_steps=n) -> a factory for the optimizer.
        inference: () -> the inference mode for whole images.
        transforms: () -> the transforms that create training views.
        loggers: name -> a factory that takes the location the logger writes to.
    """

    dataset: Callable[[], Any]
    network: Callable[..., Any]
    method: Callable[[], Any]
    loss: Callable[[], Any]
    optim: Callable[..., Any]
    inference: Callable[[], Any]
    transforms: Callable[[], Any]
    loggers: Mapping[str, Callable[..., Any]]


@dataclass(frozen=True)
class Settings:
    """The checked settings of one run.

    Attributes:
        protocol: ``<data>/<partition>``, the name results are filed under.
        method, model: the chosen options.
        partition: which images are labeled.
        val_split: the split that is evaluated.
        fold: the fold of a cross-validation; None without cross-validation.
        max_steps: optimizer steps; None: ``epochs`` applies. Takes precedence if both are set.
        epochs: passes over the unlabeled list.
        crop_size: (height, width) in pixels.
        val_subset: images per validation before the last step; None: all.
        pseudo_labels: folder of masks that a teacher made; None: there are none.
        encoder: name of the encoder, if the model lets one choose it.
        weights: initial weights of the encoder.
        channels: channels of the images.
        init: run folder or checkpoint that the networks start from; None: newly initialized weights.
        evaluation: the node ``eval``, resolved.
        stored: the whole configuration, not resolved, as in config.yaml and checkpoints: without secrets.
        resolved: the same, resolved.
    """

    study: str
    seed: int
    overwrite: bool
    protocol: str
    method: str
    model: str
    partition: PartitionArgs
    val_split: str
    fold: Fold | None
    max_steps: int | None
    epochs: int | None
    val_every: int
    val_subset: int | None
    crop_size: tuple[int, int]
    pseudo_labels: str | None
    encoder: str | None
    weights: str
    channels: int
    init: str | None
    batch: Batch
    loader: Loader
    diagnostics: Diagnostics
    early_stop: EarlyStop
    trainer: Trainer
    trial: Trial
    evaluation: dict[str, Any]
    stored: dict[str, Any]
    resolved: dict[str, Any]
    make: Factories

    @property
    def processes(self) -> int:
        """Number of processes of the run on all machines."""
        return self.trainer.devices * self.trainer.num_nodes


def read_settings(cfg: DictConfig) -> Settings:
    """Check a composed configuration and convert it to plain values; the input is not modified.

    Raises:
        InputError: names the key, its value and what is allowed.
    """
    run = check_config(cfg)
    cfg = copy.deepcopy(cfg)
    height, width = sides(run["crop_size"])
    return Settings(
        study=run["study"],
        seed=run["seed"],
        overwrite=run["overwrite"],
        protocol=run["protocol"]["name"],
        method=cfg.choices.method,
        model=cfg.choices.model,
        partition=partition_args(cfg),
        val_split=run["protocol"]["val_split"],
        fold=fold_of(cfg),
        max_steps=run["max_steps"],
        epochs=run["epochs"],
        val_every=run["val_every"],
        val_subset=run["val_subset"],
        crop_size=(height, width),
        pseudo_labels=run["pseudo_labels"],
        encoder=cfg.model.get("encoder"),
        weights=str(cfg.model.get("weights", "none")),
        channels=run["data"].get("channels", 3),
        init=run["init"],
        batch=Batch(**run["batch"]),
        loader=Loader(**run["loader"]),
        diagnostics=Diagnostics(**run["diagnostics"]),
        early_stop=EarlyStop(**run["early_stop"]),
        trainer=Trainer(**run["trainer"]),
        trial=Trial(**run["trial"]),
        evaluation=plain(cfg, resolve=True)["eval"],
        stored=mask_config(plain(cfg)),
        resolved=mask_config(plain(cfg, resolve=True)),
        make=Factories(
            dataset=partial(make, cfg, "data"),
            network=partial(make, cfg, "model"),
            method=partial(make, cfg, "method", _partial_=True),  # instantiate would mistake parts for a configuration
            loss=partial(make, cfg, "loss"),
            optim=partial(make, cfg, "optim"),
            inference=partial(make, cfg, "eval"),
            transforms=partial(make, cfg, "transforms"),
            loggers={str(name): partial(make_logger, cfg, str(name)) for name in cfg.logger},
        ),
    )


def stored_settings(
    config: Mapping[str, Any], overrides: Sequence[str] = (), *, without_weights: bool = True
) -> Settings:
    """Settings of a checkpoint, with additional overrides: ``eval=sliding``, ``data.root=DIR``.

    The weights come from the checkpoint: none are read or downloaded for the encoder. The loggers, caches and folders
    in the configuration belong to its owner and are dropped.

    Args:
        config: the configuration stored in the checkpoint.
        overrides: as typed.

    Raises:
        InputError: as ``check_overrides``.
    """
    cfg = apply_overrides(for_use(config), overrides)
    if "weights" in cfg.model:
        cfg.model.weights = "none"
    return read_settings(cfg)
