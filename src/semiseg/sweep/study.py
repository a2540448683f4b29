"""An Optuna study that several coordinators can share, leave and rejoin. Does not import torch."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from semiseg.errors import InputError, suggest
from semiseg.sweep.jobs import Outcome
from semiseg.sweep.presence import Presence
from semiseg.sweep.pruner import make_pruner
from semiseg.sweep.storage import import_optuna, open_storage

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution
    from optuna.trial import FrozenTrial

log = logging.getLogger(__name__)

SAMPLERS = {"tpe": "TPESampler", "random": "RandomSampler"}

RETRY = "retry_of"
"""Trial attribute: number of the earlier trial whose settings it runs again."""

OWNER = "owner"
"""Trial attribute: the coordinator that runs it."""

DISCARDED = "discarded"
"""Attribute of a trial that lost to another one with the same settings, or exceeded the limit. It never ran."""

TRIES = 200
"""Consecutive draws that may repeat earlier settings before the space counts as exhausted."""


@dataclass(frozen=True)
class Suggestion:
    """One trial. ``overrides``: its settings, as ``key=value``."""

    number: int
    overrides: tuple[str, ...]

    @property
    def label(self) -> str:
        """Display name."""
        return f"trial {self.number}: {' '.join(self.overrides)}"


def counted(trials: Sequence[FrozenTrial]) -> list[FrozenTrial]:
    """The trials that count, by number: one per set of settings.

    The storage numbers trials consecutively and settings never change, so all coordinators get the same list: of two
    trials with equal settings the lower number counts, and the first retry counts instead of the trial it repeats.
    """
    chosen: dict[Any, FrozenTrial] = {}
    for trial in sorted(trials, key=lambda t: t.number):
        if DISCARDED not in trial.user_attrs and trial.state.name != "WAITING":
            settings = tuple(sorted((k, str(v)) for k, v in trial.params.items()))
            chosen.setdefault(trial.user_attrs.get(RETRY, settings), trial)
    replaced = {t.user_attrs.get(RETRY) for t in chosen.values()}
    return [t for t in chosen.values() if t.number not in replaced]


class Search:
    """Suggests settings and records their outcomes.

    A suggestion is claimed by creating its trial in the storage: the coordinator with the lower number runs it. The
    settings depend on the seed, the number of trials and their results, not on the requesting process.

    Args:
        storage: URL, see ``semiseg.sweep.storage.open_storage``.
        name: name of the study in the storage.
        space: distribution of each key.
        fixed: overrides shared by all trials that affect the result.
        data: fingerprint of the data that all trials share.
        sampler: "tpe" or "random".
        seed: seed of the sampler.
        pruner: with ``pruner_args``, see ``semiseg.sweep.pruner.make_pruner``.
        pruner_args: arguments of Optuna's constructor.
        n_jobs: trials at a time.
        lease: seconds without a heartbeat after which another coordinator's trials are taken over.

    Raises:
        InputError: a wrong name, or the study was started with another space or other fixed overrides.
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
        lease: float = 60.0,
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
        self._check_same(fixed, data)
        # Jobs read it from there: the pruner may change during a study.
        self.study.set_user_attr("pruner", {"name": pruner, "args": dict(pruner_args or {})})
        self._again: list[FrozenTrial] = []
        self.presence = Presence(self.study, lease)
        self.presence.start()

    def _check_same(self, fixed: Sequence[str], data: str | None) -> None:
        to_json = self.optuna.distributions.distribution_to_json
        space = {key: json.loads(to_json(d)) for key, d in sorted(self.space.items())}
        for fact, value in {"space": space, "fixed": sorted(fixed), "data_fingerprint": data}.items():
            if fact not in self.study.user_attrs:
                self.study.set_user_attr(fact, value)
            known = self.study.user_attrs[fact]  # read back, because another coordinator may have been first
            if known != value:
                what = {"space": "another search space", "data_fingerprint": "other data"}.get(fact)
                what = what or f"other settings ({' '.join(known)})"
                raise InputError(f"study {self.study.study_name} was started with {what}: choose another study=NAME")

    def close(self) -> None:
        """Leave the study; other coordinators may take over its open trials."""
        self.presence.leave()

    # -- asking -----------------------------------------------------------------------------------------------

    def trials(self) -> list[FrozenTrial]:
        """All trials that count, by number."""
        return counted(self._all())

    def unasked(self, n_trials: int) -> int:
        """Number of trials left to request, of ``n_trials``."""
        return n_trials - len(self.trials()) + len(self._again)

    def ask(self, n_trials: int | None = None) -> Suggestion | None:
        """A new suggestion; None if there are ``n_trials`` already or the space is exhausted."""
        while self._again:
            trial = self._again.pop(0)
            if (mine := self._claim(trial.params, retry_of=trial.number)) is not None:
                return self._suggestion(mine)
        while n_trials is None or self.unasked(n_trials) > 0:
            known = [t for t in self._all() if DISCARDED not in t.user_attrs and t.params]
            fresh = self._fresh(known)
            if fresh is None:
                return None
            if (mine := self._claim(fresh, limit=n_trials)) is not None:
                return self._suggestion(mine)
        return None

    def _claim(
        self, params: Mapping[str, Any], *, retry_of: int | None = None, limit: int | None = None, **known: Any
    ) -> FrozenTrial | None:
        """Create a trial; None if another coordinator was faster, or there are already ``limit`` trials."""
        trial_module = self.optuna.trial
        attrs = {OWNER: self.presence.owner} | ({} if retry_of is None else {RETRY: retry_of})
        template = trial_module.create_trial(
            state=trial_module.TrialState.RUNNING,
            params=dict(params),
            distributions=self.space,
            user_attrs=attrs,
            **known,
        )
        # In one transaction, with its settings; Optuna's public add_trial does the same but returns no number.
        created = self.study._storage.create_new_trial(self.study._study_id, template_trial=template)
        trials = self._all()
        found = counted(trials)
        place = next((i for i, t in enumerate(found) if t._trial_id == created), None)
        if place is not None and (limit is None or place < limit):
            return found[place]
        lost = next(t for t in trials if t._trial_id == created)
        self.study._storage.set_trial_user_attr(created, DISCARDED, True)
        self.study.tell(lost.number, state=trial_module.TrialState.FAIL)
        return None

    def _fresh(self, trials: Sequence[FrozenTrial]) -> dict[str, Any] | None:
        """Sample in an in-memory copy until the settings are new."""
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

    # -- what others left -------------------------------------------------------------------------------------

    def take_over(self, n: int | None = None) -> list[Suggestion]:
        """Claim up to ``n`` open trials of coordinators that are gone, so that their runs can be resumed."""
        taken: list[Suggestion] = []
        for trial in self._of_others():
            if n is not None and len(taken) >= n:
                break
            if not self.presence.gone(trial.user_attrs.get(OWNER), self.study.user_attrs):
                continue
            mine = self._claim(trial.params, retry_of=trial.number, intermediate_values=dict(trial.intermediate_values))
            if mine is not None:
                self._close(trial.number, self.optuna.trial.TrialState.FAIL)
                taken.append(self._suggestion(mine))
        return taken

    def waiting_for(self) -> int:
        """Number of trials that other coordinators are running."""
        return len(self._of_others())

    def _of_others(self) -> list[FrozenTrial]:
        running = [t for t in self.trials() if t.state.name == "RUNNING"]
        return [t for t in running if t.user_attrs.get(OWNER) != self.presence.owner]

    def retry_failed(self) -> int:
        """Queue the settings of failed trials again, each once; returns how many."""
        self._again = [t for t in self.trials() if t.state.name == "FAIL"]
        return len(self._again)

    # -- telling ----------------------------------------------------------------------------------------------

    def tell(self, number: int, found: Outcome) -> None:
        """Record the outcome of a trial; an interrupted trial stays open."""
        if found.job.data and found.status != "interrupted":
            trial = next(t for t in self._all() if t.number == number)
            if not trial.state.is_finished():
                self.study._storage.set_trial_user_attr(trial._trial_id, "data_fingerprint", found.job.data)
        states = self.optuna.trial.TrialState
        if found.status == "completed" and found.miou is not None:
            self._close(number, states.COMPLETE, found.miou)
        elif found.status == "pruned":
            self._close(number, states.PRUNED)
        elif found.status != "interrupted":
            self._close(number, states.FAIL)

    def _close(self, number: int, state: Any, value: float | None = None) -> None:
        try:
            self.study.tell(number, value, state=state)
        except (ValueError, RuntimeError):
            log.warning("trial %d was taken over by another coordinator: its outcome is not recorded twice", number)

    def best(self) -> FrozenTrial | None:
        """The completed trial with the highest mIoU."""
        done = [t for t in self.trials() if t.state.name == "COMPLETE"]
        return max(done, key=lambda t: t.value or 0.0, default=None)

    def counts(self) -> dict[str, int]:
        """Number of trials in each state, in lower case."""
        counts: dict[str, int] = {}
        for trial in self.trials():
            counts[trial.state.name.lower()] = counts.get(trial.state.name.lower(), 0) + 1
        return counts

    def _all(self) -> list[FrozenTrial]:
        return self.study.get_trials(deepcopy=False)

    def _suggestion(self, trial: Any) -> Suggestion:
        return Suggestion(trial.number, tuple(f"{key}={trial.params[key]}" for key in self.space))
