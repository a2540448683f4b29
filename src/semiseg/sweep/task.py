"""What a launcher that is not ours, such as submitit's, calls for each job: the job's own process, and its number."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from semiseg.config.resolvers import register_resolvers
from semiseg.sweep.processes import Job, Outcome, run_processes

# A launcher composes the job's configuration in a fresh process that has imported this module only.
register_resolvers()


class JobFailed(RuntimeError):
    """A job of a sweep did not complete."""


def number(found: Outcome) -> float | None:
    """The best mIoU of a job that completed or was pruned.

    Raises:
        JobFailed: it did neither.
    """
    if found.status in ("completed", "pruned"):
        return found.miou
    raise JobFailed(found.status if found.status == "interrupted" else found.error)


def task(cfg: Any) -> float | None:
    """Run one job in a process of its own; returns the best mIoU."""
    from hydra.core.hydra_config import HydraConfig

    hydra_cfg = HydraConfig.get()
    job = Job(tuple(hydra_cfg.overrides.task), Path(hydra_cfg.runtime.output_dir), devices=cfg.trainer.devices)
    (found,) = run_processes([job], [{}], echo=True)
    return number(found)
