"""Remembers what was read of each file until the file changes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any


class RunReader:
    """Reads run folders, and again only what has changed since: watching hundreds of runs stays cheap."""

    def __init__(self) -> None:
        self._seen: dict[tuple[Path, str], tuple[object, Any]] = {}
        self.told: set[str] = set()

    def once(self, kind: str, path: Path, read: Callable[[], Any]) -> Any:
        """The value of ``read`` for the present version of the file."""
        try:
            stat = path.stat()
            state: object = (stat.st_mtime_ns, stat.st_size, stat.st_ino)
        except OSError:
            state = None
        key = (path, kind)
        if key not in self._seen or self._seen[key][0] != state:
            self._seen[key] = state, read()
        return self._seen[key][1]
