"""``overwrite=true``: the earlier run is moved aside and deleted once the new one has a checkpoint. Free of torch."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from semiseg.runs.folder import RUN_FILES

REPLACED = ".replaced"
"""Where a run that ``overwrite=true`` replaces waits until the new one has a checkpoint."""

WHOLE = "whole"
"""In that folder: an empty file that says that all of the earlier run has moved."""


def set_aside(folder: Path) -> None:
    """Move an earlier run out of the way of a new one; it is deleted when the new one has a checkpoint."""
    restore_replaced(folder)  # a run that was to replace it never had a checkpoint
    aside = folder / REPLACED
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir()
    for name in RUN_FILES:  # checkpoints first: without them, restore_replaced puts back what has moved
        if (folder / name).exists():
            os.replace(folder / name, aside / name)
    (aside / WHOLE).touch()  # from here on, what stands in the folder is the new run's


def discard_replaced(folder: Path) -> None:
    """Delete the run that was set aside."""
    shutil.rmtree(folder / REPLACED, ignore_errors=True)


def restore_replaced(folder: Path) -> bool:
    """Put a run that was set aside back if the new one ended without a checkpoint; whether it did."""
    aside = folder / REPLACED
    if not aside.is_dir() or any((folder / "checkpoints").glob("*.ckpt")):
        return False
    if (aside / WHOLE).exists():
        if (folder / "log.txt").exists():
            os.replace(folder / "log.txt", folder / "log_of_failed_overwrite.txt")
        for name in RUN_FILES:
            new = folder / name
            shutil.rmtree(new) if new.is_dir() else new.unlink(missing_ok=True)
        (aside / WHOLE).unlink()
    for name in reversed(RUN_FILES):
        if (aside / name).exists():
            os.replace(aside / name, folder / name)
    shutil.rmtree(aside)
    return True
