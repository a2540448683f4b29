"""progress.json, a run's last heartbeat, and whether the process that wrote it is still alive."""

from __future__ import annotations

import os
import socket
import time
from dataclasses import dataclass
from pathlib import Path

from semiseg.dashboard.read.files import Unreadable, read_json
from semiseg.dashboard.read.values import integer, number, text

# A run writes a heartbeat every few seconds, or after each step or image if these take longer.
STALE_SECONDS = 600.0
STALE_ELSEWHERE_SECONDS = 120.0  # for another host, only the age of the heartbeat shows whether a run is alive
_CLOCK_SECONDS = 5.0  # rounding tolerance between process start and heartbeat times
_LARGEST_PID = 2**31 - 1


@dataclass(frozen=True)
class Progress:
    """The contents of ``progress.json``. Times are in seconds, ``time`` is since the epoch."""

    step: int
    max_steps: int | None
    doing: str
    seconds_left: float | None
    time: float
    host: str
    pid: int
    device: str | None


def read_progress(path: Path, problems: list[str]) -> Progress | None:
    """The last heartbeat; None if it is missing or unusable."""
    try:
        raw = read_json(path)
        step, since, pid = integer(raw, "step"), number(raw, "time"), integer(raw, "pid")
        if step is None or step < 0:
            raise ValueError("'step' is not a number from 0 up")
        if since is None or not 0 <= since < 2**35:
            raise ValueError("'time' is not in seconds since 1970")
        if pid is None or not 0 < pid <= _LARGEST_PID:
            raise ValueError("'pid' is not a process id")
        return Progress(
            step=step,
            max_steps=integer(raw, "max_steps"),
            doing=text(raw.get("doing")) or "train",
            seconds_left=number(raw, "seconds_left"),
            time=since,
            host=text(raw.get("host")) or "unknown",
            pid=pid,
            device=text(raw.get("device")),
        )
    except FileNotFoundError:
        return None  # older runs have none
    except (Unreadable, ValueError) as error:
        problems.append(f"{path}: skipped ({error})")
        return None


def is_alive(progress: Progress) -> bool:
    """Whether the process that wrote the heartbeat is still alive.

    On this host: a process with that id exists and did not start after the heartbeat, which would mean that the id of
    a dead run was reused. On another host: the heartbeat is recent.
    """
    age = time.time() - progress.time
    here = progress.host == socket.gethostname()
    if age > (STALE_SECONDS if here else STALE_ELSEWHERE_SECONDS):
        return False
    if not here:
        return True
    try:
        os.kill(progress.pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        pass  # another user's process
    started = _start_time(progress.pid)
    return started is None or started <= progress.time + _CLOCK_SECONDS


def _start_time(pid: int) -> float | None:
    """Start time of a process on this host, in seconds since the epoch; None if unavailable."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            ticks = int(file.read().rpartition(")")[2].split()[19])  # field 22, after the name in brackets
        with open("/proc/uptime", encoding="utf-8") as file:
            up = float(file.read().split()[0])
        return time.time() - up + ticks / os.sysconf("SC_CLK_TCK")
    except (OSError, ValueError, IndexError):
        return None
