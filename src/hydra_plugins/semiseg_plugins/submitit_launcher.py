"""Launcher: Slurm jobs through submitit, or local processes that behave like them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from hydra.core.utils import JobReturn
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig
from pydantic import Field

Count = Annotated[int, Field(ge=1, le=10**6)]


class SubmititLauncher(Launcher):
    """Submits job arrays and waits for them.

    Args:
        cluster: ``slurm`` or ``local``.
        folder: for submitit's files.
        max_queued: jobs of this user in the queue at a time; None for no limit.
        max_num_timeout: how often a job may time out and resume from its checkpoint.
        every: polling interval for the queue, in seconds.
        name, timeout_min, mem_gb, gpus_per_node, cpus_per_task: see submitit's executors.
        array_parallelism, partition, account, qos, constraint, setup, signal_delay_s: see its Slurm executor.
        additional_parameters: further sbatch options.
    """

    def __init__(
        self,
        cluster: Literal["slurm", "local"],
        folder: str,
        max_queued: Count | None = None,
        max_num_timeout: Annotated[int, Field(ge=0, le=10**6)] = 20,
        every: Annotated[float, Field(gt=0, le=86400)] = 5.0,
        *,
        name: str = "semiseg",
        timeout_min: Count = 1440,
        mem_gb: Annotated[float, Field(gt=0, le=10**6)] | None = None,
        gpus_per_node: Annotated[int, Field(ge=0, le=1024)] | None = None,
        cpus_per_task: Count | None = None,
        array_parallelism: Count | None = None,
        partition: str | None = None,
        account: str | None = None,
        qos: str | None = None,
        constraint: str | None = None,
        setup: Any = None,
        signal_delay_s: Annotated[int, Field(ge=0, le=10**6)] | None = None,
        additional_parameters: Any = None,
    ) -> None:
        self.options: dict[str, Any] = {"cluster": cluster, "folder": Path(folder).absolute(), "every": every}
        self.options |= {"max_queued": max_queued, "max_num_timeout": max_num_timeout}
        self.parameters = {
            "name": name,
            "timeout_min": timeout_min,
            "mem_gb": mem_gb,
            "gpus_per_node": gpus_per_node,
            "cpus_per_task": cpus_per_task,
            "array_parallelism": array_parallelism,
            "partition": partition,
            "account": account,
            "qos": qos,
            "constraint": constraint,
            "setup": setup,
            "signal_delay_s": signal_delay_s,
            "additional_parameters": additional_parameters,
        }

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Hydra's hook."""
        self.config, self.loader = config, hydra_context.config_loader

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Run the jobs; each result is the best mIoU, or the error of a failed job."""
        from omegaconf import OmegaConf

        from semiseg.sweep.launching import compose_jobs, job_returns
        from semiseg.sweep.submitit_jobs import run_submitit

        plain: Any = {k: OmegaConf.to_container(v) if OmegaConf.is_config(v) else v for k, v in self.parameters.items()}
        jobs = compose_jobs(self.loader, self.config, job_overrides)
        return job_returns(run_submitit(jobs, parameters=plain, **self.options))
