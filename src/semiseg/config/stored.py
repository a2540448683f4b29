"""Configurations as they are stored: plain containers, without the passwords and keys that were typed."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from semiseg.config.migrate import migrate
from semiseg.config.secrets import mask_config
from semiseg.config.trust import check_trusted
from semiseg.errors import InputError


def plain(cfg: DictConfig, *, resolve: bool = False) -> dict[str, Any]:
    """A configuration as plain containers, for records: secrets are replaced by ``***``."""
    found: Any = OmegaConf.to_container(cfg, resolve=resolve)
    return {str(key): mask_config(value, str(key)) for key, value in found.items()}


def read_config(path: Path) -> dict[str, Any]:
    """A stored configuration, not resolved. It may name only constructors that semiseg's own options name.

    Raises:
        InputError: it cannot be read, is not a mapping, or is not trusted.
    """
    try:
        found = OmegaConf.to_container(OmegaConf.load(path))
    except Exception as e:  # YAML errors of several kinds, OSError, what OmegaConf refuses
        line = " ".join(str(e).split())[:200]
        raise InputError(f"{path} cannot be read ({line}); remove the folder or set overwrite=true") from e
    found = migrate(found)
    check_trusted(found, str(path))
    if not isinstance(found, dict):
        raise InputError(f"{path} is not a configuration; remove the folder or set overwrite=true")
    return {str(key): value for key, value in found.items()}


def config_yaml(config: Mapping[str, Any] | list[str]) -> str:
    """The text of config.yaml, or of overrides.yaml."""
    return OmegaConf.to_yaml(OmegaConf.create(config if isinstance(config, list) else dict(config)))
