"""Whose a run folder is: of this configuration, and of one process at a time. Free of torch, for sweeps."""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from semiseg.config.resolvers import without_effect
from semiseg.config.trust import check_trusted
from semiseg.errors import InputError
from semiseg.runs.result import RunResult, read_result


def claim_folder(folder: Path, cfg: DictConfig) -> RunResult | None:
    """Make sure that the folder is free or holds this very run.

    Returns:
        The result, when the run is complete.

    Raises:
        InputError: the folder belongs to another configuration.
    """
    there = folder / "config.yaml"
    if cfg.overwrite or not there.exists():
        return None
    try:
        old = OmegaConf.to_container(OmegaConf.load(there))
    except Exception as e:
        raise InputError(f"{there} cannot be read ({e}); remove the folder or set overwrite=true") from e
    check_trusted(old, str(there))
    differing = differing_keys(old, OmegaConf.to_container(cfg))
    if differing:
        key, a, b = differing[0]
        more = f" and {len(differing) - 1} more keys differ" if len(differing) > 1 else ""
        raise InputError(
            f"{folder} belongs to another configuration: {key} is {a} there and {b} here{more}; "
            "choose another study=NAME, or overwrite=true to train it anew"
        )
    result = read_result(folder)
    return result if result and result["status"] == "completed" else None


def differing_keys(old: Any, new: Any, prefix: str = "") -> list[tuple[str, Any, Any]]:
    """Dotted keys whose values differ, without those that change nothing that is computed."""
    if without_effect(prefix):
        return []
    if isinstance(old, dict) and isinstance(new, dict):
        found = []
        for key in dict.fromkeys([*old, *new]):
            below = f"{prefix}.{key}" if prefix else str(key)
            found += differing_keys(old.get(key), new.get(key), below)
        return found
    return [] if old == new else [(prefix, old, new)]


RUN_FILES = (
    "checkpoints", "config.yaml", "overrides.yaml", "metrics.csv", "log.txt", "result.json", "progress.json",
    "wandb_id.txt", "images", "nonfinite", "tensorboard", "wandb",
)  # fmt: skip
"""What a run writes into its folder. Anything else there is the user's and stays."""

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


@contextlib.contextmanager
def hold(folder: Path, seconds: float = 20) -> Iterator[None]:
    """Hold a run folder while its run goes on, so that no second process trains in it.

    The kernel releases it with the process, however that ends.

    Args:
        folder: must exist.
        seconds: how long to wait for a process that is about to end.

    Raises:
        InputError: another process holds it.
    """
    try:
        import fcntl
    except ImportError:  # no such locks on this system
        yield
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        deadline = time.monotonic() + seconds
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise InputError(
                        f"{folder} is in use by another process: wait for it to end, or choose another study=NAME"
                    ) from None
                time.sleep(0.2)
            except OSError:  # a file system without locks
                break
        yield
    finally:
        os.close(descriptor)
