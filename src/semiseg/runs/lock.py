"""A lock that allows one process at a time in a run folder. Does not import torch."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from pathlib import Path

from semiseg.errors import InputError
from semiseg.runs.lease import current


@contextlib.contextmanager
def hold(folder: Path, seconds: float = 20) -> Iterator[None]:
    """Lock a run folder while its run is active, so that no second process trains in it.

    The kernel releases the lock when the process ends, for whatever reason.

    Args:
        folder: must exist.
        seconds: how long to wait for a process that is about to exit.

    Raises:
        InputError: another process holds the lock.
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
                if (lease := current()) is not None and lease.taken_over:
                    break  # the process that holds the lock lost its lease, and exits at its next check
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
