"""A time-limited right to write into a run folder, represented by a lease folder on the same storage, without a server.

The lease of a run is the highest-numbered folder in ``<leases>/<run>``; the process that creates it holds it. The
holder keeps touching a file in it, so its age is read from one clock, that of the storage. A lease that has not been
touched for its ``seconds`` may be taken over: the next number is created, then the old folder is deleted. The files
that define the state of a run (last.ckpt, result.json) are written inside the holder's folder and renamed into the run
folder, so a process that lost its lease cannot put them in place: the source of its rename is gone.

Requirements on the storage: mkdir and rename are atomic, and opening a file shows earlier writes of other machines
(close-to-open consistency). Local file systems and NFS version 3 and later provide both.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

LEASE = "SEMISEG_LEASE"
"""Environment variable: the lease under which this process may write into its run folder."""

HOLDER = "holder.json"
RELEASED = "released"
LOST_CODE = 75
"""Exit code of a process that lost its lease."""


@dataclass(frozen=True)
class Lease:
    """A lease that this process acquired or inherited.

    Attributes:
        folder: the lease folder; deleted once another process has taken over.
        run: the run folder that it protects.
        taken_over: an earlier holder did not release it, and may not know that it lost it.
    """

    folder: Path
    run: Path
    taken_over: bool = False

    def touch(self) -> bool:
        """Renew the lease; False if it is lost."""
        try:
            os.utime(self.folder / HOLDER)  # without a time argument, the storage uses its own clock
        except OSError:
            return False
        return self.held()

    def held(self) -> bool:
        """Whether the lease is still ours. Opens the file, because this machine may cache directory entries."""
        try:
            with (self.folder / HOLDER).open() as f:
                return os.fstat(f.fileno()).st_nlink > 0 and self._next_is_free()
        except OSError:
            return False

    def _next_is_free(self) -> bool:
        return not self.folder.with_name(str(int(self.folder.name) + 1)).exists()

    def release(self) -> None:
        """Release the lease, so that the next holder need not wait for it to expire."""
        with contextlib.suppress(OSError):
            for path in self.folder.iterdir():  # files that were never renamed into the run folder
                if path.name != HOLDER:
                    path.unlink()
            (self.folder / RELEASED).touch()


def take(place: Path, run: Path, seconds: float) -> Lease | None:
    """Acquire the lease of a run if it is free, released or expired.

    Args:
        place: folder of the leases of this run.
        run: the run folder, on the same file system.
        seconds: how long it stays valid without being touched.

    Returns:
        The lease; None if another process holds it.
    """
    place.mkdir(parents=True, exist_ok=True)
    last = max((int(p.name) for p in place.iterdir() if p.name.isdigit()), default=0)
    current = place / str(last)
    released = (current / RELEASED).exists()
    if last and not released and not _expired(current):
        return None
    mine = place / str(last + 1)
    try:
        mine.mkdir()  # atomic: exactly one of several attempts succeeds
    except FileExistsError:
        return None
    beside = mine / f".{secrets.token_hex(4)}"
    beside.write_text(json.dumps({"seconds": seconds, "host": os.uname().nodename, "pid": os.getpid()}))
    os.replace(beside, mine / HOLDER)
    for path in place.iterdir():  # from here on, earlier holders cannot rename anything into the run folder
        if path.name.isdigit() and int(path.name) <= last:
            shutil.rmtree(path, ignore_errors=True)
    return Lease(mine, run, taken_over=last > 0 and not released)


def _expired(folder: Path) -> bool:
    """Whether a lease has expired, by the clock of its storage."""
    seconds, touched = 60.0, None
    try:
        with (folder / HOLDER).open() as f:
            touched = os.fstat(f.fileno()).st_mtime
            seconds = float(json.load(f)["seconds"])
    except (OSError, ValueError, KeyError, TypeError):
        with contextlib.suppress(OSError):
            touched = folder.stat().st_mtime  # its holder died between creating the folder and the file
    return touched is None or storage_time(folder.parent) - touched > seconds


def storage_time(folder: Path) -> float:
    """The current time by the storage's clock, read from a newly written file."""
    probe = folder / f".clock-{secrets.token_hex(4)}"
    with probe.open("w") as f:
        f.write("?")
        f.flush()
        os.fsync(f.fileno())
        now = os.fstat(f.fileno()).st_mtime
    probe.unlink(missing_ok=True)
    return now


# -- in the process that trains -------------------------------------------------------------------------------


def current() -> Lease | None:
    """The lease inherited by this process; None for a run without a lease."""
    given = os.environ.get(LEASE)
    if not given:
        return None
    folder, run, taken_over = json.loads(given)
    return Lease(Path(folder), Path(run), taken_over)


def environment(lease: Lease) -> dict[str, str]:
    """Environment variables for a process that trains under a lease."""
    return {LEASE: json.dumps([str(lease.folder), str(lease.run), lease.taken_over])}


def check_held() -> None:
    """Exit immediately if the lease is lost: nothing may be written any more, not even the reason for exiting."""
    lease = current()
    if lease is not None and not lease.held():
        stop_fenced()


def stop_fenced() -> None:
    """Exit without writing anything to the run folder."""
    os.write(sys.stderr.fileno(), b"error: this run was taken over by another worker; nothing more was written here\n")
    os._exit(LOST_CODE)


def staging(folder: Path) -> Path:
    """Where to write a file before renaming it into ``folder``: for a leased run, the lease folder of the holder."""
    lease = current()
    return lease.folder if lease is not None and folder.absolute().is_relative_to(lease.run) else folder
