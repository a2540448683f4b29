"""Hides passwords and keys that were typed on the command line."""

from __future__ import annotations

import re

MASK = "***"

# The last part of a dotted key has one of these words: logger.wandb.api_key=..., hub_token=...
_SECRET = re.compile(
    r"""(?ix) (?<![\w.]) ([+~]{0,2} (?:[\w-]+[./])* (?:\w*_)? (?:api_?)?
        (?:key|keys|token|tokens|password|passwd|secret|secrets|credentials) (?:_\w+)? ) (=|:\s)
        ( "(?:[^"\\]|\\.)*" | '(?:[^'\\]|\\.)*' | [^\s'"]+ )"""
)


def mask_secrets(text: str) -> str:
    """The text with the values of keys that look like secrets replaced by ``***``."""
    return _SECRET.sub(rf"\1\2{MASK}", text)
