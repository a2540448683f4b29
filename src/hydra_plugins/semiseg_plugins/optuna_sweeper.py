"""Sweeper: an Optuna study. Left at any moment, the same command goes on with it."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.plugins import Plugins
from hydra.core.utils import configure_log
from hydra.plugins.launcher import Launcher
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

if TYPE_CHECKING:
    from semiseg.sweep.plan import Plan
    from semiseg.sweep.processes import Job, Outcome
    from semiseg.sweep.study import Search, Suggestion

log = logging.getLogger("semiseg.sweep")


class OptunaSweeper(Sweeper):
    """Asks Optuna for trials, runs each as a job, tells it the best mIoU.

    Args:
        params: search space and fixed overrides, which the command line replaces key by key.
        n_trials: of the whole study.
        n_jobs: trials at a time.
        sampler, seed, pruner, pruner_args: see ``semiseg.sweep.study.Search``.
        storage: URL of a database; None for ``optuna.db`` in the folder of the study.
        retry_failed: suggest the settings of failed trials again.
    """

    config: DictConfig
    launcher: Launcher
    hydra_context: HydraContext

    def __init__(
        self,
        params: Any,
        n_trials: int,
        n_jobs: int | None,
        sampler: str,
        seed: int,
        pruner: str,
        pruner_args: Any,
        storage: str | None,
        retry_failed: bool,
    ) -> None:
        self.params, self.n_trials, self.n_jobs = params or {}, n_trials, n_jobs or 1
        self.options: dict[str, Any] = {"sampler": sampler, "seed": seed, "pruner": pruner}
        self.options["pruner_args"] = dict(pruner_args or {})
        self.storage, self.retry_failed = storage, retry_failed

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
        from semiseg.runs.lock import hold
        from semiseg.sweep.plan import Plan, computed, merge
        from semiseg.sweep.space import split_space
        from semiseg.sweep.study import Search

        configure_log(self.config.hydra.job_logging, self.config.hydra.verbose)
        for key in ("n_trials", "n_jobs"):
            if getattr(self, key) < 1:
                raise InputError(f"hydra.sweeper.{key}={getattr(self, key)}: must be positive")
        lines = merge(self.params, arguments)
        check_overrides(lines, multirun=True)
        fixed, space = split_space(lines)
        name = next((o.split("=", 1)[1] for o in reversed(fixed) if o.startswith("study=")), self.config.study)
        if "study" in space or "seed" in space:
            raise InputError("study and seed are no settings to search: give each one value")
        folder = Path(self.config.hydra.sweep.dir).absolute() / name
        folder.mkdir(parents=True, exist_ok=True)
        storage = self.storage or f"sqlite:///{folder / 'optuna.db'}"
        plan = Plan(self.hydra_context.config_loader, self.config, self.launcher, retry_failed=self.retry_failed)
        plan.several_roots = "data.root" in space
        varied = [key for key in space if key.split(".")[0] in ("data", "protocol")]
        data = None if varied else plan.data(self._composed(fixed))["digest"]  # otherwise each trial notes its own
        with hold(folder):
            search = Search(
                storage,
                name,
                space,
                computed(fixed),
                data=data,
                n_jobs=self.n_jobs,
                **self.options,
            )
            self._run(search, plan, [*fixed, quoted("trial.storage", storage), quoted("trial.study", name)], arguments)
            plan.close(_summary(search))
            best = search.best()
            return best.value if best else None

    def _composed(self, overrides: list[str]) -> DictConfig:
        """The configuration that all trials share."""
        from semiseg.config import without_hydra

        cfg = self.hydra_context.config_loader.load_sweep_config(self.config, overrides)
        return without_hydra(cfg, cfg.hydra)

    def _run(self, search: Search, plan: Plan, fixed: list[str], arguments: list[str]) -> None:
        if self.retry_failed and (again := search.retry_failed()):
            log.info("%d failed trial(s) are tried again", again)
        begun = search.begun()
        log.info("%d of %d trials are done, %d begun", len(search.trials()) - len(begun), self.n_trials, len(begun))
        while True:
            batch, begun = begun[: self.n_jobs], begun[self.n_jobs :]
            # Trials of an earlier call first; what they come to is known when the next are asked for.
            while not begun and len(batch) < self.n_jobs and search.unasked(self.n_trials) > 0:
                suggestion = search.ask()
                if suggestion is None:
                    log.info("nothing new to suggest: the space is exhausted")
                    break
                batch.append(suggestion)
            if not batch:
                return
            for suggestion, found in _launch(plan, batch, fixed, arguments, self.n_trials):
                search.tell(suggestion.number, found)


def _launch(
    plan: Plan, batch: list[Suggestion], fixed: list[str], arguments: list[str], n_trials: int
) -> list[tuple[Suggestion, Outcome]]:
    """Run the suggestions; one that is refused, or whose run is there already, needs no job."""
    from semiseg.errors import InputError
    from semiseg.sweep.processes import Job, Outcome

    told: list[tuple[Suggestion, Outcome]] = []
    todo: list[tuple[Suggestion, Job]] = []
    for suggestion in batch:
        overrides = [*fixed, f"trial.number={suggestion.number}", *suggestion.overrides]
        try:
            job, done = plan.job(overrides, suggestion.label)
        except InputError as e:
            job = Job(tuple(overrides), Path(suggestion.label), suggestion.label)
            done = Outcome(job, "failed", error=str(e))
        if done is None:
            todo.append((suggestion, job))
        else:
            log.info("%s", done)
            plan.outcomes[job.folder] = done
            told.append((suggestion, done))
    jobs = [job for _, job in todo]
    if jobs:
        plan.write_manifest(jobs, arguments, n_trials)
        told += [(suggestion, found) for (suggestion, _), found in zip(todo, plan.launch(jobs))]
    return told


def _summary(search: Search) -> list[str]:
    counts = ", ".join(f"{n} {state}" for state, n in search.counts().items())
    lines = [f"study {search.study.study_name}: {counts}"]
    if (best := search.best()) is not None:
        settings = " ".join(f"{key}={best.params[key]}" for key in search.space)
        lines.append(f"best mIoU {100 * (best.value or 0):.2f}: trial {best.number}, {settings}")
    return lines
