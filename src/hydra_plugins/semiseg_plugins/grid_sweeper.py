"""Sweeper: all combinations of the given values."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.core.plugins import Plugins
from hydra.core.utils import configure_log
from hydra.plugins.launcher import Launcher
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig
from pydantic import Field

if TYPE_CHECKING:
    from semiseg.sweep.plan import Plan, Planned

log = logging.getLogger("semiseg.sweep")


class GridSweeper(Sweeper):
    """A resumable version of Hydra's basic sweeper: skips finished jobs; a failed job does not stop the others.

    Args:
        params: additional overrides; the command line takes precedence per key.
        max_batch_size: jobs passed to the launcher at once; None for all.
        retry_failed: run failed jobs again.
        plan: write and print the plan with a time estimate, and run nothing.
    """

    config: DictConfig
    launcher: Launcher | None
    hydra_context: HydraContext

    def __init__(
        self,
        params: Any,
        max_batch_size: Annotated[int, Field(ge=1, le=10**9)] | None = None,
        retry_failed: bool = False,
        plan: bool = False,
    ) -> None:
        self.params, self.max_batch_size = params or {}, max_batch_size
        self.retry_failed, self.plan_only = retry_failed, plan

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Hydra's hook."""
        self.config, self.hydra_context = config, hydra_context
        self.launcher = None
        if not self.plan_only:  # a launcher may need software that only the machines of the cluster have
            self.launcher = Plugins.instance().instantiate_launcher(
                hydra_context=hydra_context, task_function=task_function, config=config
            )

    def sweep(self, arguments: list[str]) -> Any:
        """Run the remaining jobs; returns the best mIoU of each job, or None."""
        from semiseg.config.check import check_overrides
        from semiseg.sweep.folds import fold_lines
        from semiseg.sweep.manifest import write_manifest
        from semiseg.sweep.plan import Plan, merge
        from semiseg.training.rehearsal import Rehearsal

        configure_log(self.config.hydra.job_logging, self.config.hydra.verbose)
        lines = merge(self.params, arguments)
        check_overrides(lines, multirun=True)
        plan = Plan(self, rehearse=Rehearsal())
        planned = self._planned(plan, lines)  # all jobs are checked before the first one starts
        write_manifest([p.job for p in planned], arguments)
        if self.plan_only:
            from semiseg.sweep.cost import describe_plan

            print(describe_plan(planned))
            return None
        todo = [p.job for p in planned if p.done is None]
        for p in planned:
            if p.done is not None:
                plan.outcomes[p.job.folder] = p.done
                log.info("skipped: %s", p.done)
        log.info("sweep of %d jobs, %d to run", len(planned), len(todo))
        size = self.max_batch_size or max(1, len(todo))
        for start in range(0, len(todo), size):
            plan.launch(todo[start : start + size])
        plan.close(fold_lines(p.job.folder for p in planned))
        return [plan.outcomes[p.job.folder].miou for p in planned]

    def _planned(self, plan: Plan, lines: Sequence[str]) -> list[Planned]:
        parser = OverridesParser.create(config_loader=self.hydra_context.config_loader)
        choices = [_choices(override) for override in parser.parse_overrides(list(lines))]
        plan.several_roots = any(len(values) > 1 and values[0].startswith("data.root=") for values in choices)
        planned: dict[Any, Planned] = {}
        for overrides in itertools.product(*choices):
            varied = [o for o, values in zip(overrides, choices) if len(values) > 1]
            found = plan.job(overrides, " ".join(varied))
            planned.setdefault(found.job.folder, found)  # a value may be given twice
        return list(planned.values())


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
