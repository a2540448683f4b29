"""Which coordinators of a study are alive, told through its storage alone and without comparing clocks.

A coordinator keeps raising a counter in the storage. Another one takes it for gone when the counter stood still for
``lease`` seconds of the observer's own clock, or at once when its process has ended on this machine, or when it left.
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
"""Counter of a coordinator that ended."""

_serial = itertools.count()


def key(owner: str) -> str:
    """The attribute of the study that holds a coordinator's counter."""
    return f"coordinator {owner}"


class Presence:
    """The counter of a coordinator, raised by a thread, and what it has seen of the others.

    Args:
        study: Optuna's study.
        lease: seconds after which a counter that stands still means that its coordinator is gone.
    """

    def __init__(self, study: Any, lease: float = 60.0) -> None:
        self.study, self.lease = study, lease
        self.owner = "|".join([_machine(), str(os.getpid()), _started(os.getpid()), str(next(_serial))])
        self._seen: dict[str, tuple[Any, float]] = {}
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._raise, daemon=True)

    def start(self) -> None:
        """Enter the first count, and go on counting in a thread."""
        self.study.set_user_attr(key(self.owner), 0)
        self._thread.start()

    def leave(self) -> None:
        """Tell the others that whatever this coordinator has begun is free to be taken over."""
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
            except Exception:  # a database that is away for a moment; the next count may arrive
                continue

    def gone(self, owner: str | None, attrs: Mapping[str, Any]) -> bool:
        """Whether a coordinator has ended.

        Args:
            owner: its name; None for a trial of an older version, which had no names.
            attrs: attributes of the study, just read.
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
    """Where process ids mean the same; empty if that cannot be told."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{socket.gethostname()} {boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return ""


def _started(pid: int) -> str:
    """When a process started, in ticks since the machine did; empty if there is no such process."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except OSError:
        return ""
    return "" if fields[0] == "Z" else fields[19]
