"""Launcher: parallel jobs on this machine, each in its own process."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from hydra.core.utils import JobReturn
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig
from pydantic import Field


class PoolLauncher(Launcher):
    """Runs ``n_jobs`` jobs at a time, each with its own GPUs or share of the cores.

    Args:
        n_jobs: None for one per group of ``trainer.devices`` GPUs, or one without a GPU.
    """

    def __init__(self, n_jobs: Annotated[int, Field(ge=1, le=1024)] | None = None) -> None:
        self.n_jobs = n_jobs

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Hydra's hook."""
        self.config, self.loader = config, hydra_context.config_loader

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Run the jobs; each result is the best mIoU, or the error of a failed job."""
        from semiseg.sweep.launching import compose_jobs, job_returns
        from semiseg.sweep.processes import run_processes
        from semiseg.sweep.slots import slots_for

        jobs = compose_jobs(self.loader, self.config, job_overrides)
        slots = slots_for(jobs, self.n_jobs)
        return job_returns(run_processes(jobs, slots, echo=len(slots) == 1))
