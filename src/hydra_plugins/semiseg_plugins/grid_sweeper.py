"""Sweeper: every combination of the values given."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.core.plugins import Plugins
from hydra.core.utils import configure_log
from hydra.plugins.launcher import Launcher
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

if TYPE_CHECKING:
    from semiseg.sweep.processes import Job

log = logging.getLogger("semiseg.sweep")


class GridSweeper(Sweeper):
    """Hydra's basic sweeper with a memory: done jobs are left out, a failed one stops nothing.

    Args:
        params: further overrides, which the command line replaces key by key.
        max_batch_size: jobs handed to the launcher together; None for all.
        retry_failed: run failed jobs again.
    """

    config: DictConfig
    launcher: Launcher
    hydra_context: HydraContext

    def __init__(self, params: Any, max_batch_size: int | None = None, retry_failed: bool = False) -> None:
        self.params, self.max_batch_size, self.retry_failed = params or {}, max_batch_size, retry_failed

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Hydra's hook."""
        self.config, self.hydra_context = config, hydra_context
        self.launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    def sweep(self, arguments: list[str]) -> Any:
        """Run what is to do; returns the best mIoU of each job, None where there is none."""
        from semiseg.config.check import check_overrides
        from semiseg.errors import InputError
        from semiseg.sweep.plan import Plan, merge

        configure_log(self.config.hydra.job_logging, self.config.hydra.verbose)
        if self.max_batch_size is not None and self.max_batch_size < 1:
            raise InputError(f"hydra.sweeper.max_batch_size={self.max_batch_size}: expected a positive number or null")
        lines = merge(self.params, arguments)
        check_overrides(lines, multirun=True)
        parser = OverridesParser.create(config_loader=self.hydra_context.config_loader)
        choices = [_choices(override) for override in parser.parse_overrides(lines)]
        plan = Plan(self.hydra_context.config_loader, self.config, self.launcher, retry_failed=self.retry_failed)
        plan.several_roots = any(len(values) > 1 and values[0].startswith("data.root=") for values in choices)
        jobs: list[Job] = []
        todo: list[Job] = []
        for overrides in itertools.product(*choices):
            varied = [o for o, values in zip(overrides, choices) if len(values) > 1]
            job, done = plan.job(overrides, " ".join(varied))
            if job.folder in {j.folder for j in jobs}:
                continue  # a value given twice
            jobs.append(job)
            if done is None:
                todo.append(job)
            else:
                plan.outcomes[job.folder] = done
                log.info("left out: %s", done)
        plan.write_manifest(jobs, arguments)
        log.info("sweep of %d jobs, %d to do", len(jobs), len(todo))
        size = self.max_batch_size or max(1, len(todo))
        for start in range(0, len(todo), size):
            plan.launch(todo[start : start + size])
        plan.close()
        return [plan.outcomes[job.folder].miou for job in jobs]


def _choices(override: Override) -> Sequence[str]:
    from semiseg.errors import InputError

    key = override.get_key_element()
    if not override.is_sweep_override():
        return [override.input_line or ""]
    if not override.is_discrete_sweep():
        raise InputError(
            f"{override.input_line}: a grid needs single values; hydra/sweeper=optuna searches an interval"
        )
    return [f"{key}={value}" for value in override.sweep_string_iterator()]
