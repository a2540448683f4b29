"""Hydra quoting for paths and names: users may type them unquoted; generated commands contain the quotes."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Quote, QuotedString
from hydra.errors import HydraException

from semiseg.errors import InputError

PATHS = frozenset(
    {
        "data.root", "data.sbd", "data.masks", "data.mask_cache", "data.classes", "loader.cache", "paths.runs",
        "model.weights", "protocol.labeled", "protocol.unlabeled", "init", "pseudo_labels",
    }
)  # fmt: skip
"""Keys whose values are paths; a leading ``~`` is the home directory."""

NAMES = frozenset(
    {"study", "data.name", "data.mask_name", "protocol.name", "protocol.train_split", "protocol.val_split"}
)
"""Keys whose values are free names."""

KEYWORDS = frozenset({"null", "none"})
CONTROL = re.compile(r"[\x00-\x1f\x7f]")


def quoted(key: str, value: object) -> str:
    """``key=value`` as an override that Hydra parses back to exactly this text; quoted only if necessary."""
    text = str(value)
    plain = f"{key}={text}"
    return plain if _reads_as(plain, text) else f"{key}={QuotedString(text, Quote.single).with_quotes()}"


def quote_paths(overrides: Sequence[str], *, multirun: bool = False) -> list[str]:
    """Quote the values of keys that are paths or names, unless the user has quoted them.

    Args:
        overrides: as typed; words that are not ``key=value``, such as flags, are returned unchanged.
        multirun: a comma separates the values of a sweep instead of being part of a value.

    Raises:
        InputError: a value contains control characters.
    """
    return [_quote(o, multirun) for o in overrides]


def _quote(override: str, multirun: bool) -> str:
    key, equals, value = override.partition("=")
    name = key.lstrip("+")
    if not equals or name not in PATHS | NAMES or not value.strip() or value.lower() in KEYWORDS:
        return override
    if name == "data.classes" and value.isdigit():
        return override  # PASCAL-Context: 59 or 60 classes; data=folder: a file
    if name == "loader.cache" and value.lower() in ("true", "false"):
        return override  # in memory, or not at all; anything else is a folder
    if CONTROL.search(value):
        raise InputError(f"{name}={value!r}: control characters are not allowed in a path or a name")
    if _is_quoted(override) or (multirun and re.match(r"\s*(choice|glob|shuffle|sort|tag)\s*\(", value)):
        return override
    parts = list(_split_commas(value)) if multirun else [value]
    return f"{key}=" + ",".join(_quote_value(key, name, part) for part in parts)


def _quote_value(key: str, name: str, value: str) -> str:
    if _is_quoted(f"{key}={value}"):
        return value
    if name in PATHS and (value == "~" or value.startswith("~/")):
        value = os.path.expanduser(value)
    return quoted(key, value).partition("=")[2]


def _split_commas(value: str) -> Iterator[str]:
    """The parts between commas outside quotes."""
    for part in re.findall(r"""\s*(?:'(?:\\.|[^'\\])*'|"(?:\\.|[^"\\])*")\s*(?=,|$)|[^,]+""", value):
        yield part.strip()


def _is_quoted(override: str) -> bool:
    try:
        parsed = OverridesParser.create().parse_override(override)
    except HydraException:
        return False
    return not parsed.is_sweep_override() and isinstance(parsed._value, QuotedString)


def _reads_as(override: str, text: str) -> bool:
    """Whether Hydra parses the unquoted override as exactly this text."""
    try:
        parsed = OverridesParser.create().parse_override(override)
    except HydraException:
        return False
    return not parsed.is_sweep_override() and parsed.value() == text and isinstance(parsed.value(), str)
