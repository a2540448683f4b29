"""Fills in the keys that a configuration leaves out, to compare configurations of different versions."""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Mapping
from typing import Any

from semiseg.config.schema import RunConfig
from semiseg.config.signatures import ROOTS, parameters


def with_defaults(config: Mapping[str, Any]) -> dict[str, Any]:
    """A configuration (plain containers) with every key that has a default.

    A run that was stored before a key existed computed what the default stands for: that of the schema, or that of the
    constructor's argument. The value in an option file is not a default.
    """
    return {key: with_arguments(value) for key, value in with_schema(config).items()}


def with_schema(config: Mapping[str, Any]) -> dict[str, Any]:
    """The same for the nodes without a constructor only."""
    hints = typing.get_type_hints(RunConfig)
    used = {**_field_defaults(RunConfig), **config}
    for key, hint in hints.items():
        node = used.get(key, {})
        if dataclasses.is_dataclass(hint) and isinstance(node, Mapping):
            used[key] = {**_field_defaults(typing.cast(type, hint)), **node}
    return used


def with_arguments(node: Any) -> Any:
    """The same for a node with a constructor, and the nodes in it."""
    if isinstance(node, Mapping):
        found = {key: with_arguments(value) for key, value in node.items()}
        return {**_argument_defaults(found.get("_target_")), **found}
    return [with_arguments(item) for item in node] if isinstance(node, (list, tuple)) else node


def _field_defaults(schema: type) -> dict[str, Any]:
    fields = dataclasses.fields(schema)
    return {f.name: f.default for f in fields if f.default is not dataclasses.MISSING}


def _argument_defaults(target: Any) -> dict[str, Any]:
    if not isinstance(target, str) or target.split(".")[0] not in ROOTS:
        return {}
    try:
        known = parameters(target)
    except LookupError:  # a constructor of another version
        return {}
    return {name: p.default for name, p in known.items() if p.has_default}
