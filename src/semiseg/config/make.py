"""Instantiate nodes; errors in their values are reported in one line."""

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
    """Instantiate the node ``key``. A ValueError in the constructor becomes an InputError that names the key."""
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
    """Create and open the logger ``name``; ``place`` says where it writes, and may contain its own ``name``.

    Raises:
        InputError: a setting is wrong, or a package is not installed.
    """
    check_trusted(cfg.logger, "logger", stored=False)
    try:
        logger = instantiate(cfg.logger[name], _partial_=True, _convert_="all")(**place)
        _ = logger.experiment  # open it now: a wrong setting is reported before training starts
    except ValueError as e:  # includes pydantic errors from wandb
        raise InputError(f"logger={name}: {' '.join(str(e).split())[:200]}") from e
    except (InstantiationException, ModuleNotFoundError) as e:
        raise InputError(f"logger={name}: {e.__cause__ or e}; install it with pip install semiseg[{name}]") from e
    return logger


def fold_of(cfg: DictConfig) -> Fold | None:
    """The fold of a cross-validation that a configuration is for; None without cross-validation."""
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
