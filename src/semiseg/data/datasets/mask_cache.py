"""Masks that are slow to generate, cached on disk. Opt-in."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from semiseg.data.readers.file_cache import FileCache


class MaskCache(FileCache):
    """Generated masks, (H, W) uint8, as PNG files."""

    key = "data.mask_cache"
    suffix = ".png"

    def read(self, path: Path) -> np.ndarray | None:
        """(H, W) uint8; None if the file is missing or corrupt."""
        try:
            with Image.open(path) as image:
                return np.array(image)
        except Exception:  # Pillow's decoders raise OSError, SyntaxError, ValueError, ...
            return None

    def write(self, path: Path, array: np.ndarray) -> None:
        """Write the PNG file."""
        Image.fromarray(array).save(path, format="PNG", compress_level=1)
