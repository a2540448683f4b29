"""Launcher: jobs as tasks on a Ray cluster."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

from hydra.core.utils import JobReturn
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig
from pydantic import Field

if TYPE_CHECKING:
    from semiseg.sweep.ray_jobs import RayJobs


class RayLauncher(Launcher):
    """Submits each job to Ray as a task with GPUs, cores and memory.

    Args:
        address, n_jobs, retries: see ``semiseg.sweep.ray_jobs.RayJobs``.
        cpus_per_process, gpus_per_process, memory_gb: see ``semiseg.sweep.ray_jobs.Resources``.
    """

    def __init__(
        self,
        address: str,
        n_jobs: Annotated[int, Field(ge=1, le=10**6)] | None,
        retries: Annotated[int, Field(ge=0, le=10**6)],
        cpus_per_process: Annotated[float, Field(gt=0, le=4096)],
        gpus_per_process: Annotated[float, Field(ge=0, le=1024)],
        memory_gb: Annotated[float, Field(gt=0, le=10**6)] | None,
    ) -> None:
        self.address, self.n_jobs, self.retries = address, n_jobs, retries
        self.cluster: RayJobs | None = None
        self.needs: dict[str, Any] = {"cpus": cpus_per_process, "gpus": gpus_per_process, "memory_gb": memory_gb}

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Hydra's hook."""
        self.config, self.loader = config, hydra_context.config_loader

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Run the jobs; each result is the best mIoU, or the error of a failed job."""
        from semiseg.sweep.launching import compose_jobs, job_returns
        from semiseg.sweep.ray_jobs import RayJobs, Resources

        jobs = compose_jobs(self.loader, self.config, job_overrides)
        if self.cluster is None:  # kept for the next batch of a search; Ray disconnects at exit
            self.cluster = RayJobs(self.address, Resources(**self.needs), n_jobs=self.n_jobs, retries=self.retries)
        return job_returns(self.cluster.run(jobs))
