"""Caches what was read from each file until the file changes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any


class RunReader:
    """Reads run folders and re-reads only changed files, so that watching hundreds of runs stays cheap."""

    def __init__(self) -> None:
        self._seen: dict[tuple[Path, str], tuple[tuple[int, ...] | None, Any]] = {}
        self.told: set[str] = set()
        self.read_anew: set[Path] = set()
        self.indexed: set[Path] = set()

    def once(self, kind: str, path: Path, read: Callable[[], Any]) -> Any:
        """The value of ``read`` for the current version of the file."""
        try:
            stat = path.stat()
            state: tuple[int, ...] | None = (stat.st_mtime_ns, stat.st_size, stat.st_ino)
        except OSError:
            state = None
        key = (path, kind)
        if key not in self._seen or self._seen[key][0] != state:
            self._seen[key] = state, read()
            self.read_anew.add(path)
        return self._seen[key][1]

    def know(self, kind: str, path: Path, state: tuple[int, ...], value: Any) -> None:
        """Add a value from another source; it is valid while the file is in this state (time, size and inode)."""
        self._seen.setdefault((path, kind), (state, value))

    def known(self, kind: str, path: Path) -> tuple[tuple[int, ...] | None, Any] | None:
        """State and value of the version that was last read; None for a file that was never requested."""
        return self._seen.get((path, kind))
