"""Detects which coordinators of a study are alive, using only its storage and without comparing clocks.

A coordinator keeps incrementing a counter in the storage. Others consider it gone if the counter has not changed for
``lease`` seconds by the observer's own clock, or immediately if its process has ended on this machine or it has left.
"""

from __future__ import annotations

import itertools
import os
import socket
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

LEFT = -1
"""Counter value of a coordinator that has left."""

_serial = itertools.count()


def key(owner: str) -> str:
    """The study attribute that contains a coordinator's counter."""
    return f"coordinator {owner}"


class Presence:
    """The counter of a coordinator, incremented by a thread, and its observations of the other counters.

    Args:
        study: the Optuna study.
        lease: seconds without a change of its counter after which a coordinator is considered gone.
    """

    def __init__(self, study: Any, lease: float = 60.0) -> None:
        self.study, self.lease = study, lease
        self.owner = "|".join([_machine(), str(os.getpid()), _started(os.getpid()), str(next(_serial))])
        self._seen: dict[str, tuple[Any, float]] = {}
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._raise, daemon=True)

    def start(self) -> None:
        """Write the first count, and keep counting in a thread."""
        self.study.set_user_attr(key(self.owner), 0)
        self._thread.start()

    def leave(self) -> None:
        """Tell the others that the open trials of this coordinator may be taken over."""
        if not self._end.is_set():
            self._end.set()
            self._thread.join()
            self.study.set_user_attr(key(self.owner), LEFT)

    def _raise(self) -> None:
        for count in itertools.count(1):
            if self._end.wait(self.lease / 4):
                return
            try:
                self.study.set_user_attr(key(self.owner), count)
            except Exception:  # the database may be temporarily unavailable; the next count may succeed
                continue

    def gone(self, owner: str | None, attrs: Mapping[str, Any]) -> bool:
        """Whether a coordinator has ended.

        Args:
            owner: its name; None for a trial of an older version, which had no names.
            attrs: freshly read attributes of the study.
        """
        if owner is None or attrs.get(key(owner)) == LEFT:
            return True
        if owner == self.owner:
            return False
        machine, pid, started, _ = owner.split("|")
        if machine and machine == _machine() and _started(int(pid)) != started:
            return True
        count, now = attrs.get(key(owner)), time.monotonic()
        before, since = self._seen.setdefault(owner, (count, now))
        if before != count:
            self._seen[owner] = (count, now)
            return False
        return now - since > self.lease


def _machine() -> str:
    """Identifies the process id namespace (host, boot, namespace); empty if unavailable."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{socket.gethostname()} {boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return ""


def _started(pid: int) -> str:
    """Start time of a process, in ticks since boot; empty if there is no such process."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except OSError:
        return ""
    return "" if fields[0] == "Z" else fields[19]
