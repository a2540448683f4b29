"""On-disk cache for masks that are slow to generate. Opt-in."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from semiseg.errors import InputError


class MaskCache:
    """Generated masks as PNG files, keyed by their source file and the way they were generated.

    The key includes the path, size and modification time of the source, not its content: reading that would cost as
    much as generating the mask. Entries whose source changed are never used again; delete the folder to free space.
    Any number of processes may share a folder: entries are written atomically.

    Args:
        folder: created if missing.

    Raises:
        InputError: if the folder cannot be created.
    """

    def __init__(self, folder: str | Path):
        self.folder = Path(folder).expanduser()
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"data.mask_cache={folder}: not a writable folder ({error.strerror})") from None

    def get(self, source: Path, rule: str, make: Callable[[], np.ndarray]) -> np.ndarray:
        """The cached mask, or the result of ``make``, which is then cached.

        Args:
            source: the file that the mask is generated from.
            rule: describes how it is generated, and from which part of the file; part of the key.
            make: returns the mask, (H, W) uint8.

        Returns:
            (H, W) uint8.

        Raises:
            InputError: if the source is missing or the entry cannot be written; plus anything that ``make`` raises.
        """
        path = self._path(source, rule)
        mask = _read(path)
        if mask is None:
            mask = make()
            self._write(path, mask)
        return mask

    def _path(self, source: Path, rule: str) -> Path:
        try:
            found = source.stat()
        except OSError:
            raise InputError(f"{source}: no such file") from None
        key = f"{source.resolve()}\n{found.st_size}\n{found.st_mtime_ns}\n{rule}"
        name = hashlib.sha256(key.encode()).hexdigest()
        return self.folder / name[:2] / f"{name}.png"  # 256 folders: one with 100,000 files is slow to list

    def _write(self, path: Path, mask: np.ndarray) -> None:
        part = path.with_suffix(f".{os.getpid()}.part")
        try:
            path.parent.mkdir(exist_ok=True)
            Image.fromarray(mask).save(part, format="PNG", compress_level=1)
            os.replace(part, path)
        except OSError as error:
            part.unlink(missing_ok=True)
            raise InputError(f"data.mask_cache={self.folder}: cannot be written to ({error.strerror})") from None


def _read(path: Path) -> np.ndarray | None:
    """The mask; None if the file is missing or corrupt."""
    try:
        with Image.open(path) as image:
            return np.array(image)
    except Exception:  # Pillow's decoders raise OSError, SyntaxError, ValueError, ...
        return None
