"""Configurations as they are stored: plain containers, without the passwords and keys that were typed."""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import yaml
from omegaconf import DictConfig, OmegaConf

from semiseg.config.schema import RunConfig
from semiseg.config.trust import check_trusted
from semiseg.errors import InputError
from semiseg.runs.migrate import migrate

LARGEST = 1_000_000
"""Bytes of a stored configuration."""

DEEPEST = 20
"""Levels of a stored configuration."""


def plain(cfg: DictConfig, *, resolve: bool = False) -> dict[str, Any]:
    """A configuration as plain containers."""
    return cast(dict[str, Any], OmegaConf.to_container(cfg, resolve=resolve))


def read_config(path: Path) -> dict[str, Any]:
    """A stored configuration, not resolved. It may name only constructors that semiseg's own options name.

    Raises:
        InputError: it cannot be read, is not a mapping, or is not trusted.
    """
    try:
        text = path.read_text(encoding="utf-8")
        _check_shape(text)
        found = OmegaConf.to_container(OmegaConf.create(text))
    except Exception as e:  # YAML errors of several kinds, OSError, what OmegaConf refuses
        line = " ".join(str(e).split())[:200]
        raise InputError(f"{path} cannot be read ({line}); remove the folder or set overwrite=true") from e
    found = migrate(found)
    check_trusted(found, str(path))
    if not isinstance(found, dict):
        raise InputError(f"{path} is not a configuration; remove the folder or set overwrite=true")
    return {str(key): value for key, value in found.items()}


def _check_shape(text: str) -> None:
    """Refuse what grows or nests without end while it is read: a run writes neither references nor deep nesting.

    Raises:
        ValueError: says which.
    """
    if len(text) > LARGEST:
        raise ValueError(f"larger than {LARGEST} bytes")
    depth = 0
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        line = event.start_mark.line + 1 if event.start_mark else 0
        if isinstance(event, yaml.AliasEvent):
            raise ValueError(f"line {line}: references (*{event.anchor}) are not allowed")
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > DEEPEST:
            raise ValueError(f"line {line}: nested more than {DEEPEST} levels deep")


def for_use(config: Mapping[str, Any]) -> DictConfig:
    """A stored configuration as somebody else may use it: it says nothing of where its owner wrote to.

    Keys that newer versions have are filled in with their defaults.
    """
    schema = {f.name: typing.get_type_hints(RunConfig)[f.name] for f in dataclasses.fields(RunConfig)}
    used = {key: dict(value) if isinstance(value, Mapping) else value for key, value in config.items()}
    used |= {"logger": {}, "paths": {}, "overwrite": False}
    if used.get("data", {}).get("mask_cache") is not None:
        used["data"]["mask_cache"] = None
    if isinstance(loader := used.get("loader"), dict) and isinstance(loader.get("cache"), str):
        loader["cache"] = False
    used = {f.name: f.default for f in dataclasses.fields(RunConfig) if f.default is not dataclasses.MISSING} | used
    for key, hint in schema.items():
        if dataclasses.is_dataclass(hint) and isinstance(used.get(key, {}), dict):
            defaults = {f.name: f.default for f in dataclasses.fields(hint) if f.default is not dataclasses.MISSING}
            used[key] = defaults | used.get(key, {})
    return OmegaConf.create(used)


def config_yaml(config: Mapping[str, Any] | list[str]) -> str:
    """The text of config.yaml, or of overrides.yaml."""
    return OmegaConf.to_yaml(OmegaConf.create(config if isinstance(config, list) else dict(config)))
