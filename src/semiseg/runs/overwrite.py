"""``overwrite=true``: the earlier run is moved aside and deleted once the new one has a checkpoint."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from semiseg.runs.folder import RUN_FILES

REPLACED = ".replaced"
"""Folder for a run replaced by ``overwrite=true``, until the new one has a checkpoint."""

WHOLE = "whole"
"""In that folder: an empty file that marks the move of the earlier run as complete."""


def set_aside(folder: Path) -> None:
    """Move an earlier run out of the way; it is deleted when the new one has a checkpoint."""
    restore_replaced(folder)  # an earlier replacement never reached a checkpoint
    aside = folder / REPLACED
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir()
    for name in RUN_FILES:  # checkpoints first: without them, restore_replaced moves everything back
        if (folder / name).exists():
            os.replace(folder / name, aside / name)
    (aside / WHOLE).touch()  # from here on, the folder's contents belong to the new run


def discard_replaced(folder: Path) -> None:
    """Delete the run that was set aside."""
    shutil.rmtree(folder / REPLACED, ignore_errors=True)


def restore_replaced(folder: Path) -> bool:
    """Restore a run that was set aside if the new one ended without a checkpoint; returns whether it did."""
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
