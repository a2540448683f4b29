"""The composed configuration as plain values and factories: below this, nothing knows Hydra or OmegaConf."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from omegaconf import DictConfig

from semiseg.config.check import apply_overrides
from semiseg.config.make import fold_of, make, make_logger, partition_args
from semiseg.config.rules import sides
from semiseg.config.schema import Batch, Diagnostics, EarlyStop, Loader, Trainer, Trial
from semiseg.config.stored import for_use, plain
from semiseg.config.validate import check_config
from semiseg.data.partitions.folds import Fold
from semiseg.data.partitions.splits import PartitionArgs
from semiseg.runs.secrets import mask_config


@dataclass(frozen=True)
class Factories:
    """Make the objects that the configuration names; facts of the data are their arguments.

    Attributes:
        dataset: () -> the data set.
        network: (num_classes=n) -> a network with new weights.
        method: () -> a factory that takes the parts, for the method with its networks.
        loss: () -> the supervised loss.
        optim: (max_steps=n) -> what makes the optimizer.
        inference: () -> how whole images are predicted.
        transforms: () -> how training views are made.
        loggers: name -> a factory that takes the place the logger writes to.
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
    """One run, checked.

    Attributes:
        protocol: ``<data>/<partition>``, the name results are filed by.
        method, model: the options chosen.
        partition: which images are labeled.
        val_split: which are evaluated.
        fold: which run of a cross-validation it is; None: of none.
        max_steps: optimizer steps; None: ``epochs`` counts. It has the last word where both are set.
        epochs: passes over the unlabeled list.
        crop_size: (height, width) in pixels.
        val_subset: images of a validation before the last step; None: all.
        pseudo_labels: folder of masks that a teacher made; None: there are none.
        encoder: name of the encoder, where the model has one to choose.
        weights: what the encoder begins with.
        channels: of the images.
        init: run folder or checkpoint that the networks start from; None: from new weights.
        evaluation: the node ``eval``, resolved.
        stored: the whole configuration, not resolved, as config.yaml and checkpoints keep it: without secrets.
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
        """Processes of the run, over all machines."""
        return self.trainer.devices * self.trainer.num_nodes


def read_settings(cfg: DictConfig) -> Settings:
    """Check a composed configuration and turn it into plain values; it stays as it is.

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
            method=partial(make, cfg, "method", _partial_=True),  # instantiate would take parts for a configuration
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
    """Settings of a checkpoint, with further overrides: ``eval=sliding``, ``data.root=DIR``.

    The checkpoint brings the weights: nothing is read or fetched for the encoder. Loggers, caches and folders of the
    configuration are its owner's and are left out.

    Args:
        config: what the checkpoint holds.
        overrides: as typed.

    Raises:
        InputError: as ``check_overrides``.
    """
    cfg = apply_overrides(for_use(config), overrides)
    if "weights" in cfg.model:
        cfg.model.weights = "none"
    return read_settings(cfg)
