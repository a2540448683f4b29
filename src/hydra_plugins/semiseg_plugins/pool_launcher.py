"""Launcher: jobs side by side on this machine, each in a process of its own."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig


class PoolLauncher(Launcher):
    """Runs ``n_jobs`` jobs at a time, each with GPUs or a share of the cores of its own.

    Args:
        n_jobs: None for one on each group of ``trainer.devices`` GPUs, or one without a GPU.
    """

    def __init__(self, n_jobs: int | None = None) -> None:
        self.n_jobs = n_jobs

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Hydra's hook."""
        self.config, self.loader = config, hydra_context.config_loader

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Run the jobs; each result is the best mIoU, or the error of a job that failed."""
        from semiseg.sweep.processes import Job, run_processes
        from semiseg.sweep.slots import cpu_cores, make_slots, visible_gpus
        from semiseg.sweep.task import JobFailed, number

        jobs, on_gpu = [], False
        for overrides in job_overrides:
            cfg = self.loader.load_sweep_config(self.config, list(overrides))
            folder = Path(cfg.hydra.sweep.dir) / cfg.hydra.sweep.subdir
            jobs.append(Job(tuple(overrides), folder, self._label(overrides), cfg.trainer.devices))
            on_gpu = on_gpu or cfg.trainer.accelerator in ("auto", "gpu")
        gpus = visible_gpus() if on_gpu else []
        slots = make_slots(self.n_jobs, max(job.devices for job in jobs), gpus, cpu_cores())
        returns = []
        for found in run_processes(jobs, slots, echo=len(slots) == 1):
            returned = JobReturn(overrides=list(found.job.overrides), status=JobStatus.COMPLETED)
            try:
                returned.return_value = number(found)
            except JobFailed as e:
                returned.status, returned.return_value = JobStatus.FAILED, e
            returns.append(returned)
        return returns

    def _label(self, overrides: Sequence[str]) -> str:
        """What tells a job from the others: overrides that the sweep's own command does not fix."""
        fixed = set(self.config.hydra.overrides.task)
        return " ".join(o for o in overrides if o not in fixed and not o.startswith("trial."))
