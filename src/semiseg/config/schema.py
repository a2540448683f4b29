"""Types and ranges of the nodes without a constructor of their own; ``_target_`` nodes are checked in check.py."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from semiseg.errors import InputError


@dataclass
class Protocol:
    """Which images are labeled; see ``semiseg.data.partitions.splits.make_partition``."""

    name: str = "???"
    train_split: str = "train"
    val_split: str = "val"
    labeled: str | None = None
    unlabeled: str | None = None
    count: int | None = None
    fraction: float | None = None
    seed: int = 0


@dataclass
class Batch:
    """Images per process and step."""

    labeled: int = 8
    unlabeled: int = 8


@dataclass
class Loader:
    """How data is read."""

    num_workers: int = 2
    eval_batch: int = 1
    cache: bool = False


@dataclass
class Diagnostics:
    """What is watched."""

    pseudo_labels: bool = False
    panels: int = 4
    warn_after: int = 500


@dataclass
class Trainer:
    """How it is computed."""

    accelerator: str = "auto"
    devices: int = 1
    num_nodes: int = 1
    precision: str = "32-true"
    accumulate: int = 1
    clip_norm: float | None = None
    channels_last: bool = False
    compile: bool = False
    sync_batchnorm: bool = False
    deterministic: Any = "warn"
    on_nonfinite: str = "stop"
    log_every: int = 50
    save_every: int = 500


@dataclass
class Paths:
    """Where things lie."""

    runs: str = "runs"


@dataclass
class Trial:
    """Which trial of an Optuna study a run is; the sweeper fills it in."""

    storage: str | None = None
    study: str | None = None
    number: int | None = None


@dataclass
class RunConfig:
    """The whole configuration; ``Any`` stands for nodes with a ``_target_``."""

    data: Any
    protocol: Protocol
    transforms: Any
    model: Any
    method: Any
    loss: Any
    optim: Any
    eval: Any
    trainer: Trainer
    logger: Any
    paths: Paths
    loader: Loader
    diagnostics: Diagnostics
    batch: Batch
    trial: Trial
    study: str = "default"
    seed: int = 0
    overwrite: bool = False
    num_classes: int | None = None
    choices: Any = None
    max_steps: int | None = None
    epochs: int | None = None
    val_every: int = 500
    crop_size: list[int] = field(default_factory=list)


POSITIVE = (
    "max_steps", "epochs", "val_every", "batch.labeled", "trainer.devices", "trainer.num_nodes",
    "trainer.accumulate", "trainer.clip_norm", "trainer.log_every", "trainer.save_every", "loader.eval_batch",
    "diagnostics.warn_after", "protocol.count", "protocol.fraction",
)  # fmt: skip
NOT_NEGATIVE = ("seed", "batch.unlabeled", "loader.num_workers", "diagnostics.panels")
CHOICES = {
    "trainer.precision": ("32-true", "16-mixed", "bf16-mixed", "64-true"),
    "trainer.accelerator": ("auto", "cpu", "gpu", "mps"),
    "trainer.deterministic": (True, False, "warn"),
    "trainer.on_nonfinite": ("stop", "skip"),
}


def check_values(cfg: DictConfig) -> None:
    """Check types and ranges of a composed configuration.

    Raises:
        InputError: names the key, its value and what is allowed.
    """
    try:
        OmegaConf.merge(OmegaConf.structured(RunConfig), cfg)
    except OmegaConfBaseException as e:
        raise InputError(f"{e.full_key}: {str(e).splitlines()[0]}") from e
    if not all(cfg.protocol.name.partition("/")):  # results are filed by both parts
        raise InputError(f"protocol.name={cfg.protocol.name}: expected DATA/NAME, such as voc/my_list")
    size = cfg.crop_size
    if len(size) != 2 or min(size) < 1:
        raise InputError(f"crop_size={list(size)}: expected two positive numbers, height and width in pixels")
    for key in POSITIVE:
        value = OmegaConf.select(cfg, key)
        if value is not None and value <= 0:
            raise InputError(f"{key}={value}: must be positive")
    for key in NOT_NEGATIVE:
        value = OmegaConf.select(cfg, key)
        if value < 0:
            raise InputError(f"{key}={value}: must not be negative")
    for key, allowed in CHOICES.items():
        value = OmegaConf.select(cfg, key)
        if value not in allowed:
            raise InputError(f"{key}={value}: allowed are {', '.join(map(str, allowed))}")
    if (cfg.max_steps is None) == (cfg.epochs is None):
        raise InputError(
            f"max_steps={cfg.max_steps} and epochs={cfg.epochs}: set exactly one, the other to null "
            "(an epoch is one pass over the unlabeled list)"
        )
