"""The name results are filed under: that of the protocol, or a name derived from the user's own lists."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from semiseg.config.make import make, partition_args
from semiseg.data.partitions.official import official_partition
from semiseg.data.partitions.splits import Partition, make_partition
from semiseg.errors import InputError


def filed_under(protocol: str, partition: Partition) -> str:
    """``<data>/<partition>``, or ``<data>/custom_<hash>`` for lists other than those named by the protocol."""
    official = official_partition(protocol)
    if not partition.own_lists and (official is None or partition.official == protocol):
        return protocol
    return f"{protocol.split('/')[0]}/{partition.list_name.rsplit('/', 1)[-1]}"


def filed_with_pseudo_labels(protocol: str) -> str:
    """The name for runs with some labels from a teacher, whose scores are kept in separate tables."""
    return f"{protocol}_pseudo"


def filed_before_training(cfg: DictConfig) -> str:
    """The same from a composed configuration; reads the data set only if it may use custom lists."""
    name = _of_lists(cfg)
    return filed_with_pseudo_labels(name) if cfg.get("pseudo_labels") is not None else name


def _of_lists(cfg: DictConfig) -> str:
    """The name without regard to pseudo-labels.

    Errors in the lists are reported later, when they are opened; in that case the protocol's own name is returned.
    """
    p = cfg.protocol
    published = official_partition(p.name) is not None
    lists = [name for name in (p.labeled, p.unlabeled) if name is not None]
    own_files = any(official_partition(name) is None and Path(str(name)).expanduser().is_file() for name in lists)
    if not own_files and not (published and (p.count is not None or p.fraction is not None)):
        return str(p.name)
    try:
        plain: Any = {key: OmegaConf.to_container(cfg[key], resolve=True) for key in ("data", "protocol")}
        return _filed(json.dumps(plain, sort_keys=True))
    except InputError:
        return str(p.name)


@functools.cache
def _filed(text: str) -> str:
    cfg = OmegaConf.create(json.loads(text))
    return filed_under(cfg.protocol.name, make_partition(make(cfg, "data"), **partition_args(cfg)))
