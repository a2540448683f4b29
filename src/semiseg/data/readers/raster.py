"""Opening a raster file by rasterio, which is an extra (``semiseg[geo]``)."""

from __future__ import annotations

import stat
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


@contextmanager
def opened_raster(path: Path) -> Iterator[Any]:
    """A dataset of rasterio; None where it is not installed, or does not know the file."""
    try:
        import rasterio
    except ImportError:
        yield None
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
        try:
            regular = stat.S_ISREG(path.stat().st_mode)  # reading a pipe would wait forever
            file = rasterio.open(str(path.absolute()), driver="GTiff") if regular else None
        except (OSError, rasterio.errors.RasterioError):
            file = None
        if file is None:
            yield None
            return
        with file:
            yield file
