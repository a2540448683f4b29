"""Types and ranges of the nodes without a constructor, used by ``semiseg.config.validate``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import Field

Positive = Annotated[int, Field(ge=1, le=10**9)]
Natural = Annotated[int, Field(ge=0, le=10**9)]
Seed = Annotated[int, Field(ge=0, le=2**32 - 1)]
Side = Annotated[int, Field(ge=1, le=2**16)]

Node = Any
"""A node with a ``_target_``: its types come from the constructor."""


@dataclass
class Protocol:
    """Which images are labeled; see ``semiseg.data.partitions.splits.make_partition``."""

    name: str
    train_split: str = "train"
    val_split: str = "val"
    labeled: str | None = None
    unlabeled: str | None = None
    count: Positive | None = None
    fraction: Annotated[float, Field(gt=0, le=1)] | None = None
    seed: Seed = 0
    folds: Annotated[int, Field(ge=2, le=1000)] | None = None
    fold: Annotated[int, Field(ge=0, le=999)] | None = None


@dataclass
class Batch:
    """Images per process and step."""

    labeled: Positive = 8
    unlabeled: Natural = 8
    auto: bool = False
    scale_lr: bool = False


@dataclass
class Loader:
    """How data is loaded."""

    num_workers: Annotated[int, Field(ge=0, le=512)] = 2
    eval_batch: Positive = 1
    cache: bool | Annotated[str, Field(min_length=1)] = False


@dataclass
class Diagnostics:
    """What is monitored."""

    pseudo_labels: bool = False
    panels: Annotated[int, Field(ge=0, le=1000)] = 4
    warn_after: Positive = 500


@dataclass
class Trainer:
    """Device, precision and processes."""

    accelerator: Literal["auto", "cpu", "gpu", "mps"] = "auto"
    devices: Annotated[int, Field(ge=1, le=1024)] = 1
    num_nodes: Annotated[int, Field(ge=1, le=10_000)] = 1
    precision: Literal["32-true", "16-mixed", "bf16-mixed"] = "32-true"
    accumulate: Positive = 1
    clip_norm: Annotated[float, Field(gt=0)] | None = None
    channels_last: bool = False
    compile: bool = False
    checkpoint_activations: bool = False
    sync_batchnorm: bool = False
    deterministic: Literal[True, False, "warn"] = "warn"
    on_nonfinite: Literal["stop", "skip"] = "stop"
    log_every: Positive = 50
    save_every: Positive = 500


@dataclass
class EarlyStop:
    """When a run ends before its last step: after this many consecutive validations without a better mIoU."""

    patience: Positive | None = None


@dataclass
class Paths:
    """Where files are stored."""

    runs: str = "runs"


@dataclass
class Trial:
    """Which trial of an Optuna study a run is; the sweeper fills it in."""

    storage: str | None = None
    study: str | None = None
    number: Natural | None = None


@dataclass
class WandbLogger:
    """Weights & Biases; run folder, name, id, tags and configuration are filled in."""

    project: str = "semiseg"
    mode: Literal["offline", "online", "disabled"] = "offline"
    group: str | None = None
    job_type: str | None = None
    entity: str | None = None
    notes: str | None = None
    log_model: Literal[True, False, "all"] = False


@dataclass
class TensorBoardLogger:
    """TensorBoard; the folder is filled in."""

    default_hp_metric: bool = True
    log_graph: bool = False
    prefix: str = ""
    max_queue: Positive = 10
    flush_secs: Positive = 120


LIBRARY_NODES: dict[str, type] = {
    "pytorch_lightning.loggers.WandbLogger": WandbLogger,
    "pytorch_lightning.loggers.TensorBoardLogger": TensorBoardLogger,
}
"""Constructors of other packages: the arguments that can be set, and their types."""


@dataclass
class RunConfig:
    """The whole configuration."""

    data: Node
    protocol: Protocol
    transforms: Node
    model: Node
    method: Node
    loss: Node
    optim: Node
    eval: Node
    trainer: Trainer
    logger: dict[str, Node]
    paths: Paths
    loader: Loader
    diagnostics: Diagnostics
    batch: Batch
    early_stop: EarlyStop
    trial: Trial
    study: str
    seed: Seed
    overwrite: bool
    num_classes: Positive | None
    choices: dict[str, str | None]
    max_steps: Positive | None
    epochs: Positive | None
    val_every: Positive
    crop_size: Side | tuple[Side, Side]
    val_subset: Positive | None = None
    init: str | None = None
    init_sha256: str | None = None
    pseudo_labels: str | None = None
