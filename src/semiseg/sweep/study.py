"""An Optuna study that a sweep can leave and come back to. Free of torch."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from semiseg.errors import InputError, suggest
from semiseg.sweep.processes import Outcome
from semiseg.sweep.pruner import import_optuna, make_pruner, open_storage

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution
    from optuna.trial import FrozenTrial

SAMPLERS = {"tpe": "TPESampler", "random": "RandomSampler"}
RETRY = "retry_of"
"""Attribute of a trial: number of the failed one whose settings it tries again."""

TRIES = 200
"""Draws in a row that may repeat earlier settings before the space counts as exhausted."""


@dataclass(frozen=True)
class Suggestion:
    """One trial. ``overrides``: its settings, as ``key=value``."""

    number: int
    overrides: tuple[str, ...]

    @property
    def label(self) -> str:
        """For a person."""
        return f"trial {self.number}: {' '.join(self.overrides)}"


class Search:
    """Suggests settings and takes in what came of them.

    Every suggestion depends on the seed, its own number and the trials before it, not on the process that asks:
    a study that is left and gone on with does not repeat itself.

    Args:
        storage: URL.
        name: of the study in it.
        space: distribution of each key.
        fixed: overrides that all trials share and that change what is computed.
        data: fingerprint of the data that all trials share.
        sampler: "tpe" or "random".
        seed: of the sampler.
        pruner: with ``pruner_args``, see ``semiseg.sweep.pruner.make_pruner``.
        pruner_args: arguments of Optuna's constructor.
        n_jobs: trials at a time.

    Raises:
        InputError: a wrong name, or a study that was begun with another space or other fixed overrides.
    """

    def __init__(
        self,
        storage: str,
        name: str,
        space: Mapping[str, BaseDistribution],
        fixed: Sequence[str] = (),
        *,
        data: str | None = None,
        sampler: str = "tpe",
        seed: int = 0,
        pruner: str = "none",
        pruner_args: Mapping[str, Any] | None = None,
        n_jobs: int = 1,
    ) -> None:
        self.optuna = import_optuna()
        if not space:
            raise InputError(
                "nothing to search: give a key an interval(...), range(...) or choice(...), or choose sweep=NAME"
            )
        if sampler not in SAMPLERS:
            raise InputError(f"hydra.sweeper.sampler={sampler}: {suggest(sampler, SAMPLERS)}")
        make_pruner(pruner, pruner_args or {})
        self.space, self.seed, self.sampler, self.n_jobs = dict(space), seed, sampler, n_jobs
        self.study = self.optuna.create_study(
            storage=open_storage(storage), study_name=name, direction="maximize", load_if_exists=True
        )
        facts = {
            "space": {key: json.loads(self._text(d)) for key, d in sorted(space.items())},
            "fixed": sorted(fixed),
            "data_fingerprint": data,
        }
        known = self.study.user_attrs
        for fact, value in facts.items():
            if fact in known and known[fact] != value:
                what = {"space": "another search space", "data_fingerprint": "other data"}.get(fact)
                what = what or f"other settings ({' '.join(known[fact])})"
                raise InputError(f"study {name} was begun with {what}: choose another study=NAME")
            if fact not in known:
                self.study.set_user_attr(fact, value)
        # The jobs read it from there: a pruner may change while a study goes on.
        self.study.set_user_attr("pruner", {"name": pruner, "args": dict(pruner_args or {})})

    def _text(self, distribution: BaseDistribution) -> str:
        return self.optuna.distributions.distribution_to_json(distribution)

    def trials(self) -> list[FrozenTrial]:
        """All trials that count, by number: not failed ones that were tried again."""
        known = self.study.get_trials(deepcopy=False)
        retried = {t.user_attrs.get(RETRY) for t in known}
        return [t for t in known if t.number not in retried]

    def begun(self) -> list[Suggestion]:
        """Trials that were asked for and never told: the sweep was stopped between."""
        return [self._suggestion(t) for t in self.trials() if t.state.name == "RUNNING"]

    def unasked(self, n_trials: int) -> int:
        """How many trials are left to ask for, of ``n_trials``."""
        return n_trials - sum(t.state.name != "WAITING" for t in self.trials())

    def ask(self) -> Suggestion | None:
        """A suggestion that differs from all before it; None when the space is exhausted."""
        trials = self.study.get_trials(deepcopy=False)
        if not any(t.state.name == "WAITING" for t in trials):  # a failed trial to be tried again comes first
            fresh = self._fresh(trials)
            if fresh is None:
                return None
            self.study.enqueue_trial(fresh)
        return self._suggestion(self.study.ask(fixed_distributions=self.space))

    def _fresh(self, trials: Sequence[FrozenTrial]) -> dict[str, Any] | None:
        """Draw in a copy in memory until the settings are new: a study never holds a suggestion twice."""
        scratch = self.optuna.create_study(direction="maximize")
        scratch.add_trials(trials)
        known = [t.params for t in trials]
        options = {"constant_liar": True} if self.sampler == "tpe" and self.n_jobs > 1 else {}
        for attempt in range(TRIES):
            seed = (100_003 * self.seed + len(trials)) * TRIES + attempt
            scratch.sampler = getattr(self.optuna.samplers, SAMPLERS[self.sampler])(seed=seed % 2**32, **options)
            drawn = scratch.ask(fixed_distributions=self.space).params
            if drawn not in known:
                return drawn
        return None

    def tell(self, number: int, found: Outcome) -> None:
        """Take in what came of a trial; an interrupted one stays open."""
        if found.job.data and found.status != "interrupted":
            trial = next(t for t in self.study.get_trials(deepcopy=False) if t.number == number)
            self.optuna.trial.Trial(self.study, trial._trial_id).set_user_attr("data_fingerprint", found.job.data)
        states = self.optuna.trial.TrialState
        if found.status == "completed" and found.miou is not None:
            self.study.tell(number, found.miou)
        elif found.status == "pruned":
            self.study.tell(number, state=states.PRUNED)
        elif found.status != "interrupted":
            self.study.tell(number, state=states.FAIL)

    def retry_failed(self) -> int:
        """Have the settings of failed trials suggested again, each once; returns how many."""
        known = self.study.get_trials(deepcopy=False)
        retried = {t.user_attrs.get(RETRY) for t in known}
        failed = [t for t in self.trials() if t.state.name == "FAIL" and t.number not in retried]
        for trial in failed:
            self.study.enqueue_trial(trial.params, user_attrs={RETRY: trial.number})
        return len(failed)

    def best(self) -> FrozenTrial | None:
        """The completed trial with the highest mIoU."""
        done = [t for t in self.trials() if t.state.name == "COMPLETE"]
        return max(done, key=lambda t: t.value or 0.0, default=None)

    def counts(self) -> dict[str, int]:
        """Number of trials in each state, in small letters."""
        counts: dict[str, int] = {}
        for trial in self.trials():
            counts[trial.state.name.lower()] = counts.get(trial.state.name.lower(), 0) + 1
        return counts

    def _suggestion(self, trial: Any) -> Suggestion:
        return Suggestion(trial.number, tuple(f"{key}={trial.params[key]}" for key in self.space))
