"""Jobs as processes: each is one ``semiseg train`` of its own, so no state leaks from job to job. Free of torch."""

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
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from semiseg.config.quoting import quoted
from semiseg.runs.result import read_result

log = logging.getLogger(__name__)

PARENT = "SEMISEG_SWEEP"
"""Environment variable: process id of the sweep that started this job."""

PRUNED = "pruned"
"""How the error text of a run begins that a pruner stopped."""


@dataclass(frozen=True)
class Job:
    """One run of a sweep.

    Attributes:
        overrides: what ``semiseg train`` is given.
        folder: its run folder.
        label: what tells it from the other jobs, for a person.
        devices: GPUs it asks for.
        data: fingerprint of its data.
    """

    overrides: tuple[str, ...]
    folder: Path
    label: str = ""
    devices: int = 1
    data: str = ""


@dataclass(frozen=True)
class Outcome:
    """What became of a job. ``status``: completed, pruned, interrupted or failed; ``miou``: the best one, in [0, 1]."""

    job: Job
    status: str
    miou: float | None = None
    error: str | None = None

    def __str__(self) -> str:
        number = "" if self.miou is None else f", best mIoU {100 * self.miou:.2f}"
        reason = f": {self.error}" if self.error else ""
        return f"{self.status} {self.job.label or self.job.folder}{number}{reason}"


@dataclass
class _Running:
    job: Job
    slot: int
    process: subprocess.Popen
    # A file, not a pipe: a job must be able to speak, and to save its state, when the sweep is gone.
    said: BinaryIO
    offset: int = 0
    tail: bytes = b""

    def read(self, echo: bool) -> None:
        """Keep the end of what the job says, for its error line; pass all of it on when it has the screen alone."""
        while chunk := os.pread(self.said.fileno(), 65536, self.offset):
            self.offset += len(chunk)
            self.tail = (self.tail + chunk)[-8192:]
            if echo:
                sys.stderr.write(chunk.decode(errors="replace"))
                sys.stderr.flush()

    def last_line(self) -> str:
        lines = [line.strip() for line in self.tail.decode(errors="replace").replace("\r", "\n").splitlines()]
        told = [line.removeprefix("error: ") for line in lines if line.startswith("error: ") or line == "interrupted"]
        raised = [line for line in lines if re.match(r"[\w.]*(Error|Exception)\b", line)]
        said = told or raised or [line for line in lines if line]
        return said[-1] if said else "no message"


def outcome(job: Job, error: str | None = None) -> Outcome:
    """What became of a job, from its run folder and from what its process said when it did not end well."""
    result = read_result(job.folder)
    miou = result["miou"]["best"] if result else None
    told = result["error"] if result else None
    if result and result["status"] == "completed":
        return Outcome(job, "completed", miou)
    if told and told.startswith(PRUNED):
        return Outcome(job, "pruned", miou, told)
    if error and error != "interrupted":
        return Outcome(job, "failed", error=error)
    if error is None and result and result["status"] == "failed":
        return Outcome(job, "failed", error=told)
    return Outcome(job, "interrupted", miou, None if error else told)


def run_processes(jobs: Sequence[Job], slots: Sequence[Mapping[str, str]], echo: bool = False) -> list[Outcome]:
    """Run jobs, at most one in a slot at a time; a job that fails does not stop the others.

    Args:
        jobs: run in this order.
        slots: environment variables of each place a job can run in.
        echo: pass on what jobs print; otherwise a line is logged when a job begins and ends.

    Returns:
        The outcomes, in the order of the jobs.

    Raises:
        KeyboardInterrupt: on SIGINT or SIGTERM, once every job has written its checkpoint and ended.
    """
    waiting = list(enumerate(jobs))
    free = list(range(len(slots)))
    running: dict[int, _Running] = {}
    outcomes: dict[int, Outcome] = {}
    try:
        with _terminate_as_interrupt():
            while waiting or running:
                while waiting and free:
                    number, job = waiting.pop(0)
                    slot = free.pop(0)
                    running[number] = _start(job, slot, slots[slot])
                    log.info("[%d/%d] begins: %s", number + 1, len(jobs), job.label or job.folder)
                for number in [n for n, r in running.items() if r.process.poll() is not None]:
                    run = running.pop(number)
                    free.append(run.slot)
                    outcomes[number] = _end(run, echo)
                    log.info("[%d/%d] %s", number + 1, len(jobs), outcomes[number])
                for run in running.values():
                    run.read(echo)
                time.sleep(0.05)
    finally:
        _stop(list(running.values()))
    return [outcomes[n] for n in range(len(jobs))]


def _start(job: Job, slot: int, environment: Mapping[str, str]) -> _Running:
    command = [sys.executable, "-m", "semiseg", "train", *job.overrides, quoted("hydra.run.dir", job.folder)]
    said = tempfile.TemporaryFile()  # noqa: SIM115  closed by _end
    process = subprocess.Popen(
        command,
        env={**os.environ, **environment, PARENT: str(os.getpid())},
        stderr=said,
        start_new_session=True,  # Ctrl-C reaches the sweep alone, which passes it on once
    )
    return _Running(job, slot, process, said)


def _end(run: _Running, echo: bool) -> Outcome:
    run.read(echo)
    run.said.close()
    code = run.process.returncode
    if code == 0:
        return outcome(run.job)
    return outcome(run.job, run.last_line() if code > 0 else f"killed by {signal.Signals(-code).name}")


def _stop(running: Sequence[_Running]) -> None:
    """Have jobs end by themselves, with a checkpoint; a second Ctrl-C kills them."""
    if not running:
        return
    log.info("stopping %d job(s); Ctrl-C again kills them", len(running))
    for run in running:
        with contextlib.suppress(ProcessLookupError):
            run.process.send_signal(signal.SIGTERM)
    try:
        for run in running:
            run.process.wait()
    except KeyboardInterrupt:
        for run in running:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(run.process.pid, signal.SIGKILL)


@contextlib.contextmanager
def _terminate_as_interrupt() -> Iterator[None]:
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
    """In a job's process: have the kernel send SIGTERM when the sweep is gone, so that no job goes on unseen."""
    parent = os.environ.pop(PARENT, None)  # processes of this job have this one for a parent
    if parent is None:
        return
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG
    if os.getppid() != int(parent):
        raise KeyboardInterrupt
