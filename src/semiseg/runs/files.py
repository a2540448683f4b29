"""Atomic file writes: a kill leaves the old file or the new one, never a partial one. Does not import torch."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from semiseg.runs.lease import staging


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary path next to ``path`` to write to; it replaces ``path`` atomically when the block succeeds.

    Raises:
        OSError: writing failed; the temporary file is removed.
    """
    beside = staging(path.parent) / f".{path.name}.{os.getpid()}.tmp"
    try:
        yield beside
        os.replace(beside, path)
    except BaseException:
        with contextlib.suppress(OSError):
            beside.unlink()
        raise


def write_text(path: Path, text: str) -> None:
    """Replace a UTF-8 text file atomically; lines end in a line feed."""
    with replacing(path) as beside:
        beside.write_text(text, encoding="utf-8", newline="\n")


def write_json(path: Path, value: Any) -> None:
    """Replace a JSON file atomically."""
    write_text(path, json.dumps(value, indent=1) + "\n")


def link(file: Path, path: Path) -> None:
    """Make ``path`` a hard link to ``file``, or a copy if the file system has no links."""
    with replacing(path) as beside:
        beside.unlink(missing_ok=True)
        try:
            os.link(file, beside)
        except OSError:
            shutil.copyfile(file, beside)
            sync(beside)


def sync(path: Path) -> None:
    """Flush a file, or the entries of a folder, to disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def file_sha256(path: Path) -> str:
    """SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
