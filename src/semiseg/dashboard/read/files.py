"""Reads small files of untrusted run folders: limited size, regular files only, no YAML aliases."""

from __future__ import annotations

import json
import stat
from pathlib import Path
from typing import Any

import yaml

# libyaml is ten times faster if PyYAML was built with it; a sweep has hundreds of files.
_YamlLoader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

MAX_BYTES = 8_000_000
MAX_YAML_BYTES = 1_000_000
_MAX_DEPTH = 100
_FEW_OPENINGS = 500


class Unreadable(ValueError):
    """An unusable file; the message gives a short reason."""


def is_regular(path: Path) -> bool:
    """Whether the path is a plain file. Opening a pipe or a device could block forever."""
    try:
        return stat.S_ISREG(path.stat().st_mode)
    except (OSError, ValueError):
        return False


def read_text(path: Path, max_bytes: int = MAX_BYTES) -> str:
    """The text of a UTF-8 file.

    Raises:
        FileNotFoundError: the file does not exist.
        Unreadable: it is not a regular file, is larger than ``max_bytes``, is not UTF-8, or cannot be opened.
    """
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise Unreadable("not a regular file")
        if status.st_size > max_bytes:
            raise Unreadable(f"{status.st_size:,} bytes, expected at most {max_bytes:,}")
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise
    except UnicodeDecodeError as error:
        raise Unreadable(f"not UTF-8 at byte {error.start}") from error
    except OSError as error:
        raise Unreadable(error.strerror or type(error).__name__) from error


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file.

    Raises:
        FileNotFoundError: the file does not exist.
        Unreadable: it cannot be read, or contains something else.
    """
    text = read_text(path)
    try:
        value = json.loads(text)
    except RecursionError as error:
        raise Unreadable("nested too deeply") from error
    except ValueError as error:
        raise Unreadable(f"not JSON: {error}") from error
    if not isinstance(value, dict):
        raise Unreadable(f"a JSON {type(value).__name__}, expected an object")
    return value


def read_yaml(path: Path) -> Any:
    """The contents of a YAML file.

    Raises:
        FileNotFoundError: the file does not exist.
        Unreadable: it cannot be read, is nested too deeply, or has aliases: semiseg writes none, and a few lines of
            them can expand without limit.
    """
    text = read_text(path, MAX_YAML_BYTES)
    try:
        _check_yaml(text)
        return yaml.load(text, Loader=_YamlLoader)
    except RecursionError as error:
        raise Unreadable("nested too deeply") from error
    except (yaml.YAMLError, ValueError) as error:
        if isinstance(error, Unreadable):
            raise
        raise Unreadable(f"not YAML: {' '.join(str(error).split())[:200]}") from error


def _check_yaml(text: str) -> None:
    """Reject aliases and deep nesting, which crashes the process inside libyaml, before building any objects."""
    if "&" not in text and sum(text.count(opening) for opening in ("[", "{", "- ", "? ")) < _FEW_OPENINGS:
        return  # nesting is by indentation only, whose size grows with the square of the depth
    depth = 0
    for event in yaml.parse(text, _YamlLoader):
        if isinstance(event, yaml.AliasEvent):
            raise Unreadable("it has YAML aliases, which semiseg never writes")
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > _MAX_DEPTH:
            raise Unreadable("nested too deeply")
