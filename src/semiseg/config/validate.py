"""Checks each value of a configuration against the annotation of its parameter, then the rules between keys."""

from __future__ import annotations

import dataclasses
import functools
import typing
from collections.abc import Iterator, Mapping
from typing import Any

from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from semiseg.arguments import check_value, is_plain, shown
from semiseg.config.rules import check_nodes, check_settings
from semiseg.config.schema import LIBRARY_NODES, Node, RunConfig
from semiseg.config.signatures import Parameter, parameters
from semiseg.config.stored import plain
from semiseg.config.trust import check_trusted
from semiseg.errors import InputError, suggest

FILLED_IN = frozenset({"parts", "save_dir"})
"""Arguments passed by the builders."""

UNKNOWN_YET = {"${num_classes}": 2, "${max_steps}": 10**9}
"""Placeholders for references to keys that the data set fills in later."""


def check_config(cfg: DictConfig) -> dict[str, Any]:
    """Check every value of a composed configuration: known keys, types, ranges, and the rules between them.

    Returns:
        The configuration as `resolved`.

    Raises:
        InputError: names the first invalid key, its value and what is allowed.
    """
    check_trusted(cfg, "configuration", stored=False)
    values = resolved(cfg)
    _check_schema(RunConfig, values, "")
    check_settings(values)
    for path, node in target_nodes(values):
        _check_target(path, node)
    check_nodes(values)
    return values


def check_plugins(hydra: DictConfig) -> None:
    """Check the arguments of semiseg's own sweepers and launchers.

    Raises:
        InputError: as `check_config`.
    """
    for group in ("sweeper", "launcher"):
        node = plain(hydra[group], resolve=True)
        if str(node.get("_target_")).startswith("hydra_plugins.semiseg_plugins."):
            _check_target(f"hydra.{group}", node)


def resolved(cfg: DictConfig) -> dict[str, Any]:
    """Plain containers with all references resolved; placeholders for what the data set fills in.

    Raises:
        InputError: a reference to a missing key, or ``model.num_classes`` is set.
    """
    try:
        values = plain(cfg, resolve=True)
    except OmegaConfBaseException as e:
        raise InputError(f"{e.full_key}: {str(e).splitlines()[0]}") from e
    raw = plain(cfg)
    model = raw.get("model")
    if isinstance(model, dict) and model.get("num_classes", "${num_classes}") != "${num_classes}":
        raise InputError(f"model.num_classes={shown(model['num_classes'])} cannot be set: it comes from the data set")
    _stand_in(values, raw)
    return dict(values)


def _stand_in(values: dict[str, Any], raw: Mapping[str, Any]) -> None:
    for key, value in raw.items():
        if isinstance(value, Mapping) and isinstance(values[key], dict):
            _stand_in(values[key], value)
        elif isinstance(value, str) and value in UNKNOWN_YET and values[key] is None:
            values[key] = UNKNOWN_YET[value]


def target_nodes(node: Any, path: str = "") -> Iterator[tuple[str, Mapping[str, Any]]]:
    """(dotted path, node) of every node with a ``_target_``, outer ones first."""
    if isinstance(node, Mapping):
        if "_target_" in node:
            yield path, node
        for key, value in node.items():
            yield from target_nodes(value, f"{path}.{key}" if path else str(key))


def _check_schema(schema: type, values: Any, path: str) -> None:
    if not isinstance(values, Mapping):
        raise InputError(f"{path}={shown(values)}: expected the keys {', '.join(_fields(schema))}")
    fields, prefix = _fields(schema), f"{path}." if path else ""
    for key in values:
        if key not in fields and not str(key).startswith("_"):
            raise InputError(f"unknown key '{prefix}{key}': {suggest(str(key), fields)}")
    for key, hint in fields.items():
        where = f"{prefix}{key}"
        if key not in values:
            raise InputError(f"the key {where} is missing")
        value = values[key]
        if dataclasses.is_dataclass(hint):
            _check_schema(typing.cast(type, hint), value, where)
        elif hint is Node:
            _require_target(where, value)
        elif hint == dict[str, Node]:
            for name, node in (value if isinstance(value, Mapping) else {"": value}).items():
                _require_target(f"{where}.{name}", node)
        else:
            check_value(where, value, hint)


@functools.cache
def _fields(schema: type) -> dict[str, Any]:
    return typing.get_type_hints(schema, include_extras=True)


def _require_target(path: str, node: Any) -> None:
    if not isinstance(node, Mapping) or "_target_" not in node:
        raise InputError(f"{path}={shown(node)}: choose one of its options with {path.split('.')[0]}=NAME")


def _check_target(path: str, node: Mapping[str, Any]) -> None:
    target = node["_target_"]
    given = {str(k): v for k, v in node.items() if not str(k).startswith("_")}
    if target in LIBRARY_NODES:
        defaults = {f.name: f.default for f in dataclasses.fields(LIBRARY_NODES[target])}
        _check_schema(LIBRARY_NODES[target], defaults | given, path)
        return
    known = parameters(target)
    for key in given:
        if key not in known:
            raise InputError(f"unknown key '{path}.{key}' for {target}: {suggest(key, known.keys() - FILLED_IN)}")
    missing = [name for name, p in known.items() if p.required and name not in given and name not in FILLED_IN]
    if missing and not node.get("_partial_"):  # the caller of a partial passes the rest
        raise InputError(f"{path} needs the key '{missing[0]}' for {target}")
    for key, value in given.items():
        _check_argument(f"{path}.{key}", value, known[key])


def _check_argument(where: str, value: Any, parameter: Parameter) -> None:
    hint = parameter.hint
    if is_plain(hint):
        check_value(where, value, hint)
    elif hint is Any or (value is None and parameter.allows_none):
        return
    elif not (isinstance(value, Mapping) and "_target_" in value):
        raise InputError(f"{where}={shown(value)}: expected a mapping of keys, as in the shipped option files")
