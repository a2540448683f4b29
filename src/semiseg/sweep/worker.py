"""A worker runs planned runs of a study in a shared folder, without a server: a run belongs to its lease holder."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from semiseg.arguments import MASK, masked_keys
from semiseg.errors import InputError
from semiseg.runs.folder import RunFolder
from semiseg.runs.lease import Lease, environment, take
from semiseg.sweep.jobs import Job, Outcome, outcome
from semiseg.sweep.manifest import MANIFEST, read_manifest
from semiseg.sweep.processes import Pool, Running, terminate_as_interrupt
from semiseg.sweep.slots import slots_for

log = logging.getLogger(__name__)

LEASES = ".leases"
"""In the folder of a study: contains the lease folders of each run."""

FAILED = "failed"
"""In the lease folder of a run: why it failed, if the run itself could not record it."""

ATTEMPTS = 3
"""How often one worker restarts a run that keeps being interrupted."""


def lease_place(job: Job) -> Path:
    """The folder of the leases of a run."""
    study = RunFolder(job.folder).study
    return study / LEASES / "__".join(job.folder.relative_to(study).parts)


def state(job: Job) -> Outcome:
    """The state of a run, from its own folder and from the workers."""
    found = outcome(job)
    if found.status == "interrupted":
        with contextlib.suppress(OSError):
            return Outcome(job, "failed", error=(lease_place(job) / FAILED).read_text().strip())
    return found


def with_secrets(jobs: Sequence[Job], typed: Sequence[str], study: Path) -> list[Job]:
    """The jobs with the passwords and keys that their plan does not hold.

    Args:
        jobs: as the plan has them, with ``***`` for a secret.
        typed: overrides that were given to the worker.
        study: folder of the study, for messages.

    Raises:
        InputError: a value is missing, or the plan has another value for a key already.
    """
    given = {o.partition("=")[0].lstrip("+~"): o for o in typed}
    left_out = dict.fromkeys(key for job in jobs for key in masked_keys(job.overrides))
    if missing := [key for key in left_out if key not in given]:
        again = " ".join(f"{key}=VALUE" for key in left_out)
        raise InputError(
            f"{study}/{MANIFEST} does not hold the value of {missing[0]}, as passwords and keys are in no record: give "
            f"it to the worker, semiseg worker {study} {again}"
        )
    if other := [key for key in given if key not in left_out]:
        raise InputError(
            f"{given[other[0]].partition('=')[0]} cannot be given to a worker: the plan has the settings of its jobs, "
            "all but passwords and keys"
        )
    return [
        replace(job, overrides=tuple(given[masked_keys([o])[0]] if MASK in o else o for o in job.overrides))
        for job in jobs
    ]


class Worker:
    """Runs jobs of a study until this worker or others have finished all of them.

    Args:
        study: folder of the study, with its ``sweep.json``.
        n_jobs: runs at a time; None for one per group of GPUs, or one without a GPU.
        lease: seconds without a heartbeat after which a run may be taken over.
        wait: wait for the runs of other workers, to take over those that are lost.
        retry_failed: run failed jobs again, each once.
        secrets: overrides with the passwords and keys that the plan does not hold.

    Raises:
        InputError: there is no plan, or a worker cannot run its jobs.
    """

    def __init__(
        self,
        study: Path,
        *,
        n_jobs: int | None = None,
        lease: float = 60.0,
        wait: bool = True,
        retry_failed: bool = False,
        secrets: Sequence[str] = (),
    ) -> None:
        self.jobs = read_manifest(study)
        if any(o.startswith("trial.") for job in self.jobs for o in job.overrides):
            raise InputError(f"{study} is an Optuna study: run its command on every machine to share the trials")
        self.jobs = with_secrets(self.jobs, secrets, study)
        if any(job.nodes > 1 for job in self.jobs):
            raise InputError("a worker uses one machine: trainer.num_nodes > 1 needs hydra/launcher=slurm or ray")
        self.study, self.lease, self.wait, self.retry_failed = study, lease, wait, retry_failed
        self.pool = Pool(slots_for(self.jobs, n_jobs, "n_jobs"))
        self.leases: dict[int, Lease] = {}
        self.outcomes: dict[Path, Outcome] = {}
        self._done: set[Path] = set()
        self._attempts: dict[Path, int] = {}
        self._touched = self._scanned = 0.0

    def run(self) -> list[Outcome]:
        """Run jobs; returns the state of every job of the study.

        Raises:
            KeyboardInterrupt: on SIGINT or SIGTERM, once every job has written its checkpoint and ended.
        """
        try:
            with terminate_as_interrupt():
                while True:
                    self._keep_leases()
                    self._collect()
                    others = self._start()
                    if not self.pool.running and not (others and self.wait):
                        break
                    time.sleep(0.05)
        finally:
            self.pool.stop(self._keep_leases)
            self._collect()
        return [state(job) for job in self.jobs]

    def _start(self) -> bool:
        """Start jobs while slots are free; returns whether other workers hold unfinished jobs."""
        # Scanning a large study is slow on a network disk: scan often only while there is something to find.
        if not self.pool.free or time.monotonic() - self._scanned < min(self.lease / 4, 5.0):
            return True
        held = False
        for job in self.jobs:
            if not self.pool.free:
                return True
            if job.folder in self._done or any(run.job is job for run in self.pool.running):
                continue
            if self._is_done(job):
                self._done.add(job.folder)
                continue
            lease = take(lease_place(job), job.folder, self.lease)
            if lease is None:
                held = True
            elif self._is_done(job):  # by the previous lease holder
                lease.release()
            else:
                self._begin(job, lease)
        self._scanned = time.monotonic()
        return held

    def _is_done(self, job: Job) -> bool:
        attempts = self._attempts.get(job.folder, 0)
        found = state(job)
        if found.status == "failed":
            return attempts > 0 or not self.retry_failed
        return found.status != "interrupted" or attempts >= ATTEMPTS

    def _begin(self, job: Job, lease: Lease) -> None:
        self._attempts[job.folder] = self._attempts.get(job.folder, 0) + 1
        (lease_place(job) / FAILED).unlink(missing_ok=True)
        run = self.pool.start(job, environment(lease))
        self.leases[id(run)] = lease
        log.info("%s %s", "taking over" if lease.taken_over else "starting", job.name)

    def _keep_leases(self) -> None:
        if time.monotonic() - self._touched < self.lease / 5:
            return
        self._touched = time.monotonic()
        for run in self.pool.running:
            if not self.leases[id(run)].touch() and run.process.poll() is None:
                run.kill()

    def _collect(self) -> None:
        for run, found in self.pool.ended():
            self._end(run, found)
            self._scanned = 0.0

    def _end(self, run: Running, found: Outcome) -> None:
        lease = self.leases.pop(id(run))
        if not lease.held():
            log.warning("lost to another worker: %s", run.job.name)
            return
        if found.status == "failed":
            with contextlib.suppress(OSError):
                (lease_place(run.job) / FAILED).write_text(f"{found.error}\n")
        lease.release()
        self.outcomes[run.job.folder] = found
        log.info("%s", found)
