"""Jobs as processes: each is a separate ``semiseg train``, so no state leaks between jobs. Does not import torch."""

from __future__ import annotations

import contextlib
import ctypes
import logging
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import BinaryIO

from semiseg.sweep.jobs import Job, Node, Outcome, command, outcome

log = logging.getLogger(__name__)

PARENT = "SEMISEG_SWEEP"
"""Environment variable: process id of the sweep that started this job."""


@dataclass
class Running:
    """A job whose process was started."""

    job: Job
    slot: int
    process: subprocess.Popen
    # A file, not a pipe: a job must be able to print messages and save its state even if the sweep is gone.
    output: BinaryIO
    offset: int = 0
    tail: bytes = b""

    def read(self, echo: bool) -> None:
        """Keep the end of the job's output for its error line; with ``echo``, print all of it."""
        while chunk := os.pread(self.output.fileno(), 65536, self.offset):
            self.offset += len(chunk)
            self.tail = (self.tail + chunk)[-8192:]
            if echo:
                sys.stderr.write(chunk.decode(errors="replace"))
                sys.stderr.flush()

    def last_error(self) -> str:
        """The line with the reason why the job ended."""
        lines = [line.strip() for line in self.tail.decode(errors="replace").replace("\r", "\n").splitlines()]
        told = [line.removeprefix("error: ") for line in lines if line.startswith("error: ") or line == "interrupted"]
        raised = [line for line in lines if re.match(r"[\w.]*(Error|Exception)\b", line)]
        found = told or raised or [line for line in lines if line]
        return found[-1] if found else "no message"

    def kill(self) -> None:
        """Kill the job and all its processes now, without a checkpoint."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, signal.SIGKILL)


class Pool:
    """Job processes, at most one per slot at a time.

    Args:
        slots: environment variables of each slot.
        echo: print what jobs print.
    """

    def __init__(self, slots: Sequence[Mapping[str, str]], echo: bool = False) -> None:
        self.slots, self.echo = slots, echo
        self.free = list(range(len(slots)))
        self.running: list[Running] = []

    def start(self, job: Job, environment: Mapping[str, str] | None = None, node: Node | None = None) -> Running:
        """Start a job in a free slot; with ``node``, only this node's part of it."""
        slot = self.free.pop(0)
        output = tempfile.TemporaryFile()  # noqa: SIM115  closed by ended()
        process = subprocess.Popen(
            command(job, node),
            env={**os.environ, **self.slots[slot], **(environment or {}), PARENT: str(os.getpid())},
            stderr=output,
            start_new_session=True,  # Ctrl-C reaches only the sweep, which forwards it once
        )
        running = Running(job, slot, process, output)
        self.running.append(running)
        return running

    def ended(self) -> list[tuple[Running, Outcome]]:
        """The jobs that have ended since the last call."""
        found = []
        for run in list(self.running):
            code = run.process.poll()
            run.read(self.echo)
            if code is None:
                continue
            run.read(self.echo)
            run.output.close()
            self.running.remove(run)
            self.free.append(run.slot)
            error = None
            if code != 0:
                error = run.last_error() if code > 0 else f"killed by {signal.Signals(-code).name}"
            found.append((run, outcome(run.job, error)))
        return found

    def stop(self, meanwhile: Callable[[], None] = lambda: None) -> None:
        """Ask jobs to write a checkpoint and end; a second Ctrl-C kills them.

        Args:
            meanwhile: called repeatedly until they have ended.
        """
        if not self.running:
            return
        log.info("stopping %d job(s); Ctrl-C again kills them", len(self.running))
        for run in self.running:
            with contextlib.suppress(ProcessLookupError):
                run.process.send_signal(signal.SIGTERM)
        try:
            while any(run.process.poll() is None for run in self.running):
                meanwhile()
                time.sleep(0.05)
        except KeyboardInterrupt:
            for run in self.running:
                run.kill()


def run_processes(
    jobs: Sequence[Job], slots: Sequence[Mapping[str, str]], echo: bool = False, node: Node | None = None
) -> list[Outcome]:
    """Run jobs, at most one per slot at a time; a failed job does not stop the others.

    Args:
        jobs: run in this order.
        slots: environment variables of each slot.
        echo: print what jobs print; otherwise log a line when a job starts and ends.
        node: run only this node's part of each job.

    Returns:
        The outcomes, in the order of the jobs.

    Raises:
        KeyboardInterrupt: on SIGINT or SIGTERM, once every job has written its checkpoint and ended.
    """
    waiting = list(enumerate(jobs))
    numbers: dict[int, int] = {}
    outcomes: dict[int, Outcome] = {}
    pool = Pool(slots, echo)
    try:
        with terminate_as_interrupt():
            while waiting or pool.running:
                while waiting and pool.free:
                    number, job = waiting.pop(0)
                    numbers[id(pool.start(job, node=node))] = number
                    log.info("[%d/%d] started %s", number + 1, len(jobs), job.name)
                for run, found in pool.ended():
                    number = numbers.pop(id(run))
                    outcomes[number] = found
                    log.info("[%d/%d] %s", number + 1, len(jobs), found)
                time.sleep(0.05)
    finally:
        pool.stop()
    return [outcomes[n] for n in range(len(jobs))]


@contextlib.contextmanager
def terminate_as_interrupt() -> Iterator[None]:
    """SIGTERM ends a sweep as Ctrl-C does."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def follow_sweep() -> None:
    """In a job's process: have the kernel send SIGTERM when the sweep is gone, so that no job is orphaned.

    SIGUSR2 is for the sweep: through submitit, Slurm sends it before the time limit to all processes of the job.
    """
    parent = os.environ.pop(PARENT, None)  # child processes of this job have this process as parent
    if parent is None:
        return
    signal.signal(signal.SIGUSR2, signal.SIG_IGN)
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG
    if os.getppid() != int(parent):
        raise KeyboardInterrupt
