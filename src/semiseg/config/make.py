"""Instantiate a node; mistakes in its values become one line."""

from __future__ import annotations

from typing import Any

from hydra.errors import InstantiationException
from hydra.utils import instantiate
from omegaconf import DictConfig

from semiseg.config.trust import check_trusted
from semiseg.data.partitions.folds import Fold
from semiseg.data.partitions.splits import PartitionArgs
from semiseg.errors import InputError


def make(cfg: DictConfig, key: str, **kwargs: Any) -> Any:
    """Instantiate the node ``key``. A ValueError of the constructor becomes an InputError that names the key."""
    check_trusted(cfg[key], key)
    try:
        return instantiate(cfg[key], _convert_="all", **kwargs)
    except InstantiationException as e:
        cause = e.__cause__
        if isinstance(cause, InputError):
            raise cause from None
        if isinstance(cause, ValueError):
            raise InputError(f"{key}: {cause}") from cause
        raise


def make_logger(cfg: DictConfig, name: str, /, **place: Any) -> Any:
    """Make and open the logger ``name``; ``place`` says where it writes to, and may hold a ``name`` of its own.

    Raises:
        InputError: for a wrong setting, or a package that is not installed.
    """
    check_trusted(cfg.logger, "logger", stored=False)
    try:
        logger = instantiate(cfg.logger[name], _partial_=True, _convert_="all")(**place)
        _ = logger.experiment  # opens it now: a wrong setting is told before anything is trained
    except ValueError as e:  # pydantic's among them, of wandb
        raise InputError(f"logger={name}: {' '.join(str(e).split())[:200]}") from e
    except (InstantiationException, ModuleNotFoundError) as e:
        raise InputError(f"logger={name}: {e.__cause__ or e}; install it with pip install semiseg[{name}]") from e
    return logger


def fold_of(cfg: DictConfig) -> Fold | None:
    """Which run of a cross-validation a configuration is for; None: of none."""
    return None if cfg.protocol.folds is None else Fold(cfg.protocol.folds, cfg.protocol.fold)


def partition_args(cfg: DictConfig) -> PartitionArgs:
    """The keys of ``protocol`` that ``semiseg.data.partitions.splits.make_partition`` takes."""
    p = cfg.protocol
    return PartitionArgs(
        name=p.name,
        train_split=p.train_split,
        labeled=p.labeled,
        unlabeled=p.unlabeled,
        count=p.count,
        fraction=p.fraction,
        seed=p.seed,
    )
