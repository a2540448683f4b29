"""Optuna's pruners by name, and a trial as its own run sees it. Free of torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from semiseg.errors import InputError, suggest
from semiseg.sweep.storage import import_optuna, open_storage

if TYPE_CHECKING:
    import optuna

PRUNERS = {
    "median": "MedianPruner",
    "asha": "SuccessiveHalvingPruner",  # Optuna's halving is the asynchronous one
    "halving": "SuccessiveHalvingPruner",
    "hyperband": "HyperbandPruner",
    "none": "NopPruner",
}


def make_pruner(name: str, args: Mapping[str, Any]) -> optuna.pruners.BasePruner:
    """The pruner called ``name``, with arguments of Optuna's constructor.

    Raises:
        InputError: there is no such pruner, or it does not take an argument.
    """
    if name not in PRUNERS:
        raise InputError(f"hydra.sweeper.pruner={name}: {suggest(name, PRUNERS)}")
    try:
        return getattr(import_optuna().pruners, PRUNERS[name])(**args)
    except (TypeError, ValueError) as e:
        raise InputError(f"hydra.sweeper.pruner_args={dict(args)}: {e}") from e


def with_resources(name: str, args: Mapping[str, Any], val_every: int, max_steps: int | None) -> dict[str, Any]:
    """Pruner arguments, with resources counted in optimizer steps where the user gave none.

    Args:
        name: of the pruner; those that do not count resources keep their arguments.
        args: what the user gave.
        val_every: steps between two reports: the smallest resource.
        max_steps: steps of a whole run: the largest; None when unknown.
    """
    own: dict[str, Any] = {}
    if name in ("asha", "halving", "hyperband"):
        own["min_resource"] = val_every
    if name == "hyperband" and max_steps:
        own["max_resource"] = max_steps
    return {**own, **args}


def load_trial(storage: str, study: str, number: int) -> optuna.trial.Trial:
    """A trial to report to from another process; its study has the pruner that the sweep was started with."""
    optuna = import_optuna()
    opened = optuna.load_study(study_name=study, storage=open_storage(storage))
    opened.pruner = make_pruner(**opened.user_attrs["pruner"])
    found = next(t for t in opened.get_trials(deepcopy=False) if t.number == number)
    return optuna.trial.Trial(opened, found._trial_id)
