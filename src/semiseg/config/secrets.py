"""Keeps passwords and keys from the command line or a configuration out of all records."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

MASK = "***"

_WORD = r"(?:api_?)?(?:key|token|password|passwd|secret|credentials?)(?:_id)?"

NAME = re.compile(rf"(?i)(^|[._-]){_WORD}$")
"""Pattern for the end of a secret's dotted key, in whole words: ``logger.wandb.api_key``, ``hub_token``; not
``keys_per_class``, ``token_count``."""

LOGIN = re.compile(r"(?<=://)([^/@\s:]+):[^/@\s]+(?=@)")
"""User and password in a URL: ``postgresql://me:secret@host/db``."""


def mask_overrides(overrides: Sequence[str]) -> list[str]:
    """Overrides as typed, with secret values replaced by ``***``."""
    masked = []
    for override in overrides:
        key, equals, value = override.partition("=")
        masked.append(f"{key}={MASK}" if equals and value and NAME.search(key) else LOGIN.sub(rf"\1:{MASK}", override))
    return masked


def masked_keys(overrides: Sequence[str]) -> list[str]:
    """The keys of recorded overrides whose values were left out, wholly or in part."""
    return [o.partition("=")[0].lstrip("+~") for o in overrides if MASK in o]


def mask_config(node: Any, key: str = "") -> Any:
    """A configuration as plain containers, with secret values replaced by ``***``."""
    if isinstance(node, Mapping):
        return {k: mask_config(v, str(k)) for k, v in node.items()}
    if isinstance(node, list):
        return [mask_config(v, key) for v in node]
    if not isinstance(node, str):
        return node
    return MASK if node and NAME.search(key) else LOGIN.sub(rf"\1:{MASK}", node)


_TYPED = re.compile(
    rf"""(?ix) (?<![\w.-]) ([+~]{{0,2}} (?:[\w-]+[./])* (?:[\w-]*[_-])? {_WORD} ) (=|:\s)
        ( "(?:[^"\\]|\\.)*" | '(?:[^'\\]|\\.)*' | [^\s'"]+ )"""
)


def mask_text(text: str) -> str:
    """A command line or message in which apparent values of secret keys are replaced by ``***``."""
    return LOGIN.sub(rf"\1:{MASK}", _TYPED.sub(rf"\1\2{MASK}", text))
