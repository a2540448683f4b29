"""Stored configurations: plain containers, without the passwords and keys that were typed."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import yaml
from omegaconf import DictConfig, OmegaConf
from omegaconf._utils import get_yaml_loader

from semiseg.config.defaults import with_arguments, with_schema
from semiseg.config.trust import check_trusted
from semiseg.data.readers.listing import file_is_there
from semiseg.errors import InputError
from semiseg.runs.migrate import migrate

LARGEST = 1_000_000
"""Maximum size of a stored configuration in bytes."""

DEEPEST = 20
"""Maximum nesting depth of a stored configuration."""

OWNERS = (("data", "mask_cache"), ("data", "balance"), ("loss", "class_weights"))
"""Keys for output locations of a run, or that would read its training data again."""


# libyaml is twenty times faster if PyYAML was built with it.
class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """Reads numbers like OmegaConf, which accepts ``1e-3``, and leaves dates as text."""

    yaml_implicit_resolvers = get_yaml_loader().yaml_implicit_resolvers


def plain(cfg: DictConfig, *, resolve: bool = False) -> dict[str, Any]:
    """A configuration as plain containers."""
    return cast(dict[str, Any], OmegaConf.to_container(cfg, resolve=resolve))


def read_config(path: Path) -> dict[str, Any]:
    """A stored configuration, not resolved. It may name only constructors used in semiseg's own option files.

    Raises:
        InputError: it cannot be read, is not a mapping, or is not trusted.
    """
    file_is_there(path)
    try:
        text = path.read_text(encoding="utf-8")
        _check_shape(text)
        found = yaml.load(text, Loader=_Loader)
        _check_values(found)
    except Exception as e:  # several kinds of YAML errors, OSError, errors from OmegaConf
        line = " ".join(str(e).split())[:200]
        raise InputError(f"{path} cannot be read ({line}); remove the folder or set overwrite=true") from e
    found = migrate(found)
    check_trusted(found, str(path))
    if not isinstance(found, dict):
        raise InputError(f"{path} is not a configuration; remove the folder or set overwrite=true")
    return {str(key): value for key, value in found.items()}


def _check_shape(text: str) -> None:
    """Reject files that expand or nest without limit when parsed: a run writes neither references nor deep nesting.

    Raises:
        ValueError: the reason.
    """
    if len(text) > LARGEST:
        raise ValueError(f"larger than {LARGEST} bytes")
    depth = 0
    for event in yaml.parse(text, Loader=_Loader):
        line = event.start_mark.line + 1 if event.start_mark else 0
        if isinstance(event, yaml.AliasEvent):
            raise ValueError(f"line {line}: references (*{event.anchor}) are not allowed")
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > DEEPEST:
            raise ValueError(f"line {line}: nested more than {DEEPEST} levels deep")


def _check_values(node: Any) -> None:
    """Reject what a configuration cannot contain, as OmegaConf does; building its nodes would take five times as long.

    Raises:
        ValueError: a type other than text, number, mapping or list, or an invalid reference.
    """
    if isinstance(node, dict):
        for key, value in node.items():
            if not isinstance(key, (str, int, float)):
                raise ValueError(f"the key {key!r} is not a name")
            _check_values(value)
    elif isinstance(node, list):
        for value in node:
            _check_values(value)
    elif isinstance(node, str):
        if "${" in node:
            _check_reference(node)
    elif node is not None and not isinstance(node, (int, float)):
        raise ValueError(f"{node!r} is not a text or a number")


@functools.lru_cache(1000)
def _check_reference(text: str) -> None:
    OmegaConf.create([text])


def for_use(config: Mapping[str, Any]) -> DictConfig:
    """A stored configuration for use by somebody else: without its owner's output locations and GPU.

    Keys added in newer versions are filled in with their defaults.
    """
    used = {key: dict(value) if isinstance(value, Mapping) else value for key, value in config.items()}
    used |= {"logger": {}, "paths": {}, "overwrite": False, "init": None}
    for group, key in OWNERS:
        if used.get(group, {}).get(key) is not None:
            used[group][key] = None
    if isinstance(loader := used.get("loader"), dict) and not isinstance(loader.get("cache", False), bool):
        loader["cache"] = False
    used = with_schema(used)
    used["data"] = with_arguments(used.get("data", {}))
    if used["trainer"]["accelerator"] in ("gpu", "mps"):
        used["trainer"]["accelerator"] = "auto"
    return OmegaConf.create(used)


def config_yaml(config: Mapping[str, Any] | list[str]) -> str:
    """The text of config.yaml, or of overrides.yaml."""
    return OmegaConf.to_yaml(OmegaConf.create(config if isinstance(config, list) else dict(config)))
