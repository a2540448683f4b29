"""Code shared by our launchers: converts Hydra's override lists to jobs, and outcomes to Hydra's return values."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra.core.utils import JobReturn, JobStatus
from omegaconf import DictConfig

from semiseg.sweep.jobs import Job, Outcome


class JobFailed(RuntimeError):
    """A job of a sweep did not complete."""


def make_job(cfg: DictConfig, overrides: Sequence[str], label: str = "") -> Job:
    """The job for a composed configuration that still contains Hydra's node."""
    folder = Path(cfg.hydra.sweep.dir) / cfg.hydra.sweep.subdir
    on_gpu = cfg.trainer.accelerator in ("auto", "gpu")
    return Job(tuple(overrides), folder.absolute(), label, cfg.trainer.devices, cfg.trainer.num_nodes, on_gpu)


def compose_jobs(loader: Any, config: DictConfig, job_overrides: Sequence[Sequence[str]]) -> list[Job]:
    """The jobs passed to a launcher."""
    fixed = set(config.hydra.overrides.task)
    jobs = []
    for overrides in job_overrides:
        varied = [o for o in overrides if o not in fixed and not o.startswith("trial.")]
        jobs.append(make_job(loader.load_sweep_config(config, list(overrides)), overrides, " ".join(varied)))
    return jobs


def number(found: Outcome) -> float | None:
    """The best mIoU of a completed or pruned job.

    Raises:
        JobFailed: the job neither completed nor was pruned.
    """
    if found.status in ("completed", "pruned"):
        return found.miou
    raise JobFailed(found.status if found.status == "interrupted" and not found.error else found.error)


def job_returns(outcomes: Sequence[Outcome]) -> list[JobReturn]:
    """The return value of a launcher: the best mIoU of each job, or the error of a failed job."""
    returns = []
    for found in outcomes:
        returned = JobReturn(overrides=list(found.job.overrides), status=JobStatus.COMPLETED)
        try:
            returned.return_value = number(found)
        except JobFailed as e:
            returned.status, returned.return_value = JobStatus.FAILED, e
        returns.append(returned)
    return returns
