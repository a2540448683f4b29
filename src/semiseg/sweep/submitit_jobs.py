"""Jobs of a sweep as Slurm jobs, through submitit. Does not import torch; submitit is imported on use."""

from __future__ import annotations

import itertools
import logging
import os
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from semiseg.errors import InputError
from semiseg.sweep.extras import import_extra
from semiseg.sweep.jobs import Job, Node, Outcome, outcome
from semiseg.sweep.processes import Pool

log = logging.getLogger(__name__)

ARRAY = 1000
"""Maximum jobs per array; clusters reject longer ones by default."""

SHARED = ("name", "timeout_min", "mem_gb", "nodes", "cpus_per_task", "gpus_per_node", "tasks_per_node")
"""Parameters that submitit defines for all engines; the others are specific to Slurm."""


def import_submitit() -> Any:
    """Submitit.

    Raises:
        InputError: it is not installed.
    """
    return import_extra("submitit", "hydra/launcher=slurm", "slurm")


class Call:
    """The callable executed by a queued job: starts the run in a separate process, on each of its nodes.

    Args:
        job: the run.
        cwd: base folder of relative paths in its settings.
    """

    def __init__(self, job: Job, cwd: str) -> None:
        self.job, self.cwd = job, cwd
        self._pool: Pool | None = None

    def __call__(self) -> tuple[str, float | None, str | None]:
        """Status, best mIoU and error of the run."""
        os.chdir(self.cwd)
        pool = self._pool = Pool([{}], echo=True)
        pool.start(self.job, node=_node(self.job))
        try:
            while not (ended := pool.ended()):
                time.sleep(0.1)
        finally:
            pool.stop()
        ((_, found),) = ended
        return found.status, found.miou, found.error

    def checkpoint(self) -> Any:
        """Submitit's hook before a timeout or preemption: have the run write a checkpoint, then requeue it."""
        if self._pool is not None:
            self._pool.stop()
        return import_submitit().helpers.DelayedSubmission(Call(self.job, self.cwd))


def _node(job: Job) -> Node | None:
    """The part of this machine in a job on several machines; the first machine is the rendezvous."""
    if job.nodes == 1:
        return None
    place = import_submitit().JobEnvironment()
    number = int("".join(c for c in place.raw_job_id if c.isdigit()) or 0)
    return Node(place.node, f"{place.hostnames[0]}:{20000 + number % 20000}")


def run_submitit(
    jobs: Sequence[Job],
    *,
    cluster: str,
    folder: Path,
    parameters: Mapping[str, Any],
    max_num_timeout: int,
    max_queued: int | None = None,
    every: float = 2.0,
    ask_every: float = 30.0,
) -> list[Outcome]:
    """Submit jobs as arrays and wait for them; a failed or killed job does not stop the others.

    Args:
        jobs: submitted in this order.
        cluster: ``slurm``, or ``local`` for local processes.
        folder: folder for submitit's files.
        parameters: parameters of submitit; Slurm's without prefix. ``gpus_per_node`` None uses the job's devices.
        max_num_timeout: how often a job may time out and be requeued.
        max_queued: jobs of this user in the queue at a time; None for no limit.
        every: polling interval for results, in seconds.
        ask_every: polling interval for Slurm, in seconds; only Slurm knows about killed jobs.

    Raises:
        InputError: the queue or a parameter is unknown.
        KeyboardInterrupt: on Ctrl-C; the jobs have been cancelled and can be resumed.
    """
    submitit = import_submitit()
    order = {job.folder: number for number, job in enumerate(jobs)}
    waiting = [list(group) for _, group in itertools.groupby(sorted(jobs, key=_shape), key=_shape)]
    submitted: dict[Path, Any] = {}
    outcomes: dict[Path, Outcome] = {}
    asked = time.monotonic()
    try:
        while waiting or submitted:
            while waiting:
                room = _room(max_queued, cluster, len(submitted))
                size = min(room, ARRAY)
                part, waiting[0] = waiting[0][:size], waiting[0][size:]
                if part:
                    executor = _executor(submitit, cluster, folder, parameters, max_num_timeout, part[0])
                    with executor.batch():
                        queued = [executor.submit(Call(job, os.getcwd())) for job in part]
                    submitted |= {job.folder: entry for job, entry in zip(part, queued)}
                    log.info("submitted %d job(s), from %s to %s", len(part), queued[0].job_id, queued[-1].job_id)
                if waiting[0]:
                    break
                waiting.pop(0)
            time.sleep(every)
            if cluster == "slurm" and submitted and time.monotonic() - asked >= ask_every:
                next(iter(submitted.values())).watcher.update()
                asked = time.monotonic()
            for job in jobs:
                entry = submitted.get(job.folder)
                if entry is not None and entry.done():
                    outcomes[job.folder] = _outcome(job, submitted.pop(job.folder))
                    log.info("[%d/%d] %s", order[job.folder] + 1, len(jobs), outcomes[job.folder])
    except KeyboardInterrupt:
        log.info("canceling %d job(s); each writes a checkpoint", len(submitted))
        for entry in submitted.values():
            entry.cancel(check=False)
        raise
    return [outcomes[job.folder] for job in jobs]


def _shape(job: Job) -> tuple[int, int, bool]:
    """The resource request that all jobs of an array share."""
    return (job.nodes, job.devices, job.on_gpu)


def _executor(
    submitit: Any, cluster: str, folder: Path, parameters: Mapping[str, Any], max_num_timeout: int, job: Job
) -> Any:
    given = {k: v for k, v in parameters.items() if v is not None}
    given.setdefault("gpus_per_node", job.devices if job.on_gpu else 0)
    given |= {"nodes": job.nodes, "tasks_per_node": 1}
    named = {k if k in SHARED else f"slurm_{k}": v for k, v in given.items()}
    try:
        limit = {f"{cluster}_max_num_timeout": max_num_timeout}
        executor = submitit.AutoExecutor(folder=folder, cluster=cluster, **limit)
        executor.update_parameters(**named)
    except (RuntimeError, ValueError, NameError, TypeError, AssertionError) as e:
        raise InputError(f"hydra.launcher: {' '.join(str(e).split())[:300]}") from e
    return executor


def _room(max_queued: int | None, cluster: str, own: int) -> int:
    """How many more jobs may be queued."""
    if max_queued is None:
        return 1_000_000
    queued = own
    if cluster == "slurm":
        try:
            command = ["squeue", "--me", "--array", "--noheader", "--format=%i"]
            listed = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
            queued = max(own, len(listed.stdout.split()))
        except (OSError, subprocess.SubprocessError) as e:
            log.warning("squeue does not respond (%s): only the jobs of this sweep are counted", e)
    return max(0, max_queued - queued)


def _outcome(job: Job, entry: Any) -> Outcome:
    try:
        status, miou, error = entry.results()[0]
    except Exception as e:  # killed, out of memory, canceled: submitit reports these in several ways
        lines = [line.strip() for line in str(e).splitlines() if line.strip()]
        return outcome(job, f"job {entry.job_id}: {lines[0][:200] if lines else type(e).__name__}")
    return Outcome(job, status, miou, error)
