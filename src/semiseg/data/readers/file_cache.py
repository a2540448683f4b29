"""Arrays that are slow to generate, cached on disk. Opt-in."""

from __future__ import annotations

import hashlib
import os
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

import numpy as np

from semiseg.errors import InputError


class FileCache(ABC):
    """One file per array, keyed by its source file and the way it was generated.

    The key includes the path, size and modification time of the source, not its content: reading that would cost as
    much as generating the array. Entries whose source changed are never used again; delete the folder to free space.
    Any number of processes may share a folder: entries are written atomically, and a killed process leaves at most a
    ``.part`` file. Nothing is written outside the folder.

    Args:
        folder: created if missing.

    Attributes:
        key: configuration key, for messages.
        suffix: of the files.

    Raises:
        InputError: if the folder cannot be created.
    """

    key: ClassVar[str]
    suffix: ClassVar[str]

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder).expanduser()
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"{self.key}={folder}: not a writable folder ({error.strerror})") from None

    def get(self, source: Path, rule: str, make: Callable[[], np.ndarray]) -> np.ndarray:
        """The cached array, or the result of ``make``, which is then cached.

        Args:
            source: the file that the array is generated from.
            rule: describes how it is generated, and from which part of the file; part of the key.
            make: returns the array.

        Raises:
            InputError: if the source is missing or the entry cannot be written; plus anything that ``make`` raises.
        """
        path = self._path(source, rule)
        array = self.read(path)
        if array is None:
            array = make()
            self._put(path, array)
        return array

    @abstractmethod
    def read(self, path: Path) -> np.ndarray | None:
        """The array; None if the file is missing or corrupt."""

    @abstractmethod
    def write(self, path: Path, array: np.ndarray) -> None:
        """Write the file."""

    def _path(self, source: Path, rule: str) -> Path:
        try:
            found = source.stat()
        except OSError:
            raise InputError(f"{source}: no such file") from None
        key = f"{source.resolve()}\n{found.st_size}\n{found.st_mtime_ns}\n{rule}"
        name = hashlib.sha256(key.encode()).hexdigest()
        return self.folder / name[:2] / f"{name}{self.suffix}"  # 256 folders: one with 100,000 files is slow to list

    def _put(self, path: Path, array: np.ndarray) -> None:
        part = None
        try:
            path.parent.mkdir(exist_ok=True)
            # Not named by process id: processes on several machines may share the folder.
            handle, part = tempfile.mkstemp(suffix=".part", dir=path.parent)
            os.close(handle)
            self.write(Path(part), array)
            os.replace(part, path)
        except OSError as error:
            if part is not None:
                Path(part).unlink(missing_ok=True)
            raise InputError(f"{self.key}={self.folder}: cannot be written to ({error.strerror})") from None
