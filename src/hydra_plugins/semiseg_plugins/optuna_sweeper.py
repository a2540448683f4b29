"""Sweeper: an Optuna study. It can be interrupted and resumed at any time; several sweepers can share one study."""

from __future__ import annotations

import logging
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from hydra.core.plugins import Plugins
from hydra.core.utils import configure_log
from hydra.plugins.launcher import Launcher
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig
from pydantic import Field

if TYPE_CHECKING:
    from semiseg.sweep.jobs import Job, Outcome
    from semiseg.sweep.plan import Plan
    from semiseg.sweep.study import Search, Suggestion

log = logging.getLogger("semiseg.sweep")

LOOK = 2.0
"""Polling interval for the trials of other coordinators, in seconds."""


class OptunaSweeper(Sweeper):
    """Asks Optuna for trials, runs each as a job, tells it the best mIoU.

    Args:
        params: search space and fixed overrides; the command line takes precedence per key.
        n_trials: trials in the whole study.
        n_jobs: trials at a time.
        sampler, seed, pruner, pruner_args, lease: see ``semiseg.sweep.study.Search``.
        storage: see ``semiseg.sweep.storage.open_storage``; None for a journal in the folder of the study.
        retry_failed: suggest the settings of failed trials again.
        plan: not supported.
    """

    config: DictConfig
    launcher: Launcher
    hydra_context: HydraContext

    def __init__(
        self,
        params: Any,
        n_trials: Annotated[int, Field(ge=1, le=10**9)],
        n_jobs: Annotated[int, Field(ge=1, le=1024)] | None,
        sampler: Literal["tpe", "random"],
        seed: Annotated[int, Field(ge=0, le=2**32 - 1)],
        pruner: Literal["median", "asha", "halving", "hyperband", "none"],
        pruner_args: Any,
        storage: str | None,
        lease: Annotated[float, Field(gt=0)],
        retry_failed: bool,
        plan: bool = False,
    ) -> None:
        self.params, self.n_trials, self.n_jobs = params or {}, n_trials, n_jobs or 1
        self.options: dict[str, Any] = {"sampler": sampler, "seed": seed, "pruner": pruner, "lease": lease}
        self.pruner_args = dict(pruner_args or {})
        self.storage, self.retry_failed, self.plan_only = storage, retry_failed, plan

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Hydra's hook."""
        self.config, self.hydra_context = config, hydra_context
        self.launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    def sweep(self, arguments: list[str]) -> float | None:
        """Run trials until there are ``n_trials``; returns the best mIoU."""
        from semiseg.config.check import check_overrides
        from semiseg.config.quoting import quoted
        from semiseg.errors import InputError
        from semiseg.sweep.plan import Plan, computed, merge
        from semiseg.sweep.pruner import with_resources
        from semiseg.sweep.space import split_space
        from semiseg.sweep.storage import default_storage
        from semiseg.sweep.study import Search
        from semiseg.training.rehearsal import Rehearsal

        configure_log(self.config.hydra.job_logging, self.config.hydra.verbose)
        if self.plan_only:
            raise InputError("plan=true lists the jobs of a grid; those of a search are not known before it runs")
        lines = merge(self.params, arguments)
        check_overrides(lines, multirun=True)
        fixed, space = split_space(lines)
        name = next((o.split("=", 1)[1] for o in reversed(fixed) if o.startswith("study=")), self.config.study)
        if "study" in space or "seed" in space:
            raise InputError("study and seed cannot be searched: give each one value")
        plan = Plan(self, rehearse=Rehearsal())
        plan.several_roots = "data.root" in space
        roots = [quoted("data.root", root) for root in getattr(space.get("data.root"), "choices", ())]
        shared = plan.job([*fixed, *roots[:1]], "the settings that all trials share")
        for root in roots[1:]:  # no two of them may contain the same data
            plan.job([*fixed, root], root)
        varied = any(key.split(".")[0] in ("data", "protocol") for key in space)  # then each trial records its data
        args = with_resources(self.options["pruner"], self.pruner_args, shared.val_every, shared.max_steps)
        folder = Path(self.config.hydra.sweep.dir).absolute() / name
        folder.mkdir(parents=True, exist_ok=True)
        storage = self.storage or default_storage(folder)
        search = Search(
            storage,
            name,
            space,
            computed(fixed),
            data=None if varied else shared.job.data,
            n_jobs=self.n_jobs,
            pruner_args=args,
            **self.options,
        )
        try:
            self._run(search, plan, [*fixed, quoted("trial.storage", storage), quoted("trial.study", name)], arguments)
        finally:
            search.close()
        plan.close(_summary(search))
        best = search.best()
        return best.value if best else None

    def _run(self, search: Search, plan: Plan, fixed: list[str], arguments: list[str]) -> None:
        if self.retry_failed and (again := search.retry_failed()):
            log.info("retrying %d failed trial(s)", again)
        counts = ", ".join(f"{n} {state}" for state, n in search.counts().items())
        log.info("study of %d trials: %s", self.n_trials, counts or "none yet")
        told = 0
        while True:
            # Resume open trials first: their outcome is then known when new ones are sampled.
            batch = search.take_over(self.n_jobs)
            while len(batch) < self.n_jobs and (suggestion := search.ask(self.n_trials)) is not None:
                batch.append(suggestion)
            for suggestion, found in _launch(plan, batch, fixed, arguments, self.n_trials):
                search.tell(suggestion.number, found)
            if batch:
                continue
            others = search.waiting_for()
            if not others:
                break
            if others != told:
                log.info("waiting for %d trial(s) of other coordinators", others)
                told = others
            time.sleep(LOOK)
        if search.unasked(self.n_trials) > 0:
            log.info("nothing new to suggest: the space is exhausted")


def _launch(
    plan: Plan, batch: list[Suggestion], fixed: list[str], arguments: list[str], n_trials: int
) -> list[tuple[Suggestion, Outcome]]:
    """Run the suggestions; those that are rejected or already finished need no job."""
    from semiseg.errors import InputError
    from semiseg.sweep.jobs import Job, Outcome
    from semiseg.sweep.manifest import write_manifest

    told: list[tuple[Suggestion, Outcome]] = []
    todo: list[tuple[Suggestion, Job]] = []
    for suggestion in batch:
        overrides = [*fixed, f"trial.number={suggestion.number}", *suggestion.overrides]
        try:
            planned = plan.job(overrides, suggestion.label)
            job, done = planned.job, planned.done
        except InputError as e:
            job = Job(tuple(overrides), Path(suggestion.label), suggestion.label)
            done = Outcome(job, "failed", error=str(e).removeprefix(f"{suggestion.label}: "))
        if done is None:
            todo.append((suggestion, job))
        else:
            log.info("%s", done)
            plan.outcomes[job.folder] = done
            told.append((suggestion, done))
    jobs = [job for _, job in todo]
    if jobs:
        write_manifest(jobs, arguments, n_trials)
        told += [(suggestion, found) for (suggestion, _), found in zip(todo, plan.launch(jobs))]
    return told


def _summary(search: Search) -> list[str]:
    counts = ", ".join(f"{n} {state}" for state, n in search.counts().items())
    lines = [f"study {search.study.study_name}: {counts}"]
    if (best := search.best()) is not None:
        settings = " ".join(f"{key}={best.params[key]}" for key in search.space)
        lines.append(f"best mIoU {100 * (best.value or 0):.2f}: trial {best.number}, {settings}")
    return lines
