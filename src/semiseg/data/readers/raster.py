"""Open a raster file with rasterio, which is an optional dependency (``semiseg[geo]``)."""

from __future__ import annotations

import stat
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


@contextmanager
def opened_raster(path: Path) -> Iterator[Any]:
    """A rasterio dataset; None if rasterio is not installed or does not support the file."""
    try:
        import rasterio
    except ImportError:
        yield None
        return
    # Not catch_warnings(): files are opened in threads, and it restores what another thread has set.
    warnings.filterwarnings("ignore", category=rasterio.errors.NotGeoreferencedWarning)
    try:
        regular = stat.S_ISREG(path.stat().st_mode)  # reading from a pipe would block forever
        file = rasterio.open(str(path.absolute()), driver="GTiff") if regular else None
    except (OSError, rasterio.errors.RasterioError):
        file = None
    if file is None:
        yield None
        return
    with file:
        yield file
