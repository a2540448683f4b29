"""Ends a process that was requested to stop but does not reach a point where it can. Does not import torch."""

from __future__ import annotations

import multiprocessing
import os
import select
import signal
import threading
import time
from typing import NoReturn

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
"""Ctrl-C, the end of a job, and Slurm's advance warning (``--signal=USR1@90``)."""

PATIENCE = 30.0
"""Seconds without a step boundary after a signal until the process is ended immediately."""

SECOND = 1.0
"""Seconds after which another signal counts as a second one: a cluster and torchrun may deliver the same one twice."""

HURRY = 5.0
"""Seconds for a clean exit after a second signal."""


class Deadline:
    """Ends this process and its data workers immediately if it was requested to stop and cannot.

    A thread receives signals through a pipe that the C handler writes to, so it works wherever the main thread is
    blocked. Use it as a context manager in the main thread; elsewhere it does nothing.

    Args:
        patience: seconds after a signal without a call of ``renew``.
    """

    def __init__(self, patience: float = PATIENCE) -> None:
        self.patience = patience
        self._end_by = self._noticed = 0.0
        self._ends: tuple[int, int] | None = None
        self._before = -1

    def __enter__(self) -> Deadline:
        if self._ends is None and threading.current_thread() is threading.main_thread():
            read, write = os.pipe()
            os.set_blocking(write, False)
            self._ends = (read, write)
            self._before = signal.set_wakeup_fd(write, warn_on_full_buffer=False)
            threading.Thread(target=self._listen, args=(read,), name="deadline", daemon=True).start()
        return self

    def __exit__(self, *exc: object) -> None:
        if self._ends is not None:
            signal.set_wakeup_fd(self._before)
            os.close(self._ends[1])  # the thread reads end-of-file, and closes its side
            self._ends = None

    def renew(self) -> None:
        """Report that a step, or a part of it, has ended: the process is alive."""
        if self._noticed and self._end_by:
            self._end_by = max(self._end_by, time.monotonic() + self.patience)

    def _listen(self, read: int) -> None:
        hurried = False
        while True:
            ready, _, _ = select.select([read], [], [], 0.2 if self._end_by else None)
            now = time.monotonic()
            if ready:
                if not (data := os.read(read, 64)):
                    os.close(read)
                    return
                if any(number in data for number in SIGNALS):
                    if not self._noticed:
                        self._noticed, self._end_by = now, now + self.patience
                    elif now - self._noticed > SECOND:
                        hurried, self._end_by = True, min(self._end_by, now + HURRY)
            if self._end_by and now > self._end_by:
                end_now("a second signal" if hurried else f"no step has ended within {self.patience:.0f} s")


def end_now(reason: str) -> NoReturn:
    """End this process and its data workers without cleaning up."""
    line = f"\nstopped immediately ({reason}): the same command resumes from the last checkpoint\ninterrupted\n"
    os.write(2, line.encode())
    for worker in multiprocessing.active_children():
        worker.kill()
    os._exit(130)
