"""Instantiate a node; mistakes in its values become one line."""

from __future__ import annotations

from typing import Any

from hydra.errors import InstantiationException
from hydra.utils import instantiate
from omegaconf import DictConfig

from semiseg.config.trust import check_trusted
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
