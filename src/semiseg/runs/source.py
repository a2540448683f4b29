"""The earlier model that a run starts from (``init=``): its file, and the hash that is part of the run's identity.

Does not import torch, because the names of run folders depend on it.
"""

from __future__ import annotations

import functools
import hashlib
import os
from pathlib import Path

from semiseg.errors import InputError


def source_file(source: str | Path) -> Path:
    """The checkpoint that ``init=`` refers to: the best one of a run folder, or the file itself.

    Raises:
        InputError: it does not exist.
    """
    path = Path(source).expanduser()
    file = path / "checkpoints" / "best.ckpt" if path.is_dir() else path
    if not file.is_file():
        what = "contains no checkpoints/best.ckpt" if path.is_dir() else "does not exist"
        raise InputError(f"init={source} {what}: expected the folder of a run, or one of its checkpoints")
    return file


def source_digest(source: str | Path) -> str:
    """Hex SHA-256 of that file.

    Raises:
        InputError: it does not exist or cannot be read.
    """
    file = source_file(source)
    try:
        found = os.stat(file)
        return _digest(str(file.absolute()), found.st_size, found.st_mtime_ns)
    except OSError as e:
        raise InputError(f"init={source} cannot be read ({e.strerror})") from e


@functools.lru_cache(maxsize=64)
def _digest(file: str, size: int, changed: int) -> str:
    with open(file, "rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()
