"""Optuna's pruners by name, and access to a trial from its own run. Does not import torch."""

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
        InputError: the pruner does not exist, or rejects an argument.
    """
    if name not in PRUNERS:
        raise InputError(f"hydra.sweeper.pruner={name}: {suggest(name, PRUNERS)}")
    try:
        return getattr(import_optuna().pruners, PRUNERS[name])(**args)
    except (TypeError, ValueError) as e:
        raise InputError(f"hydra.sweeper.pruner_args={dict(args)}: {e}") from e


def with_resources(name: str, args: Mapping[str, Any], val_every: int, max_steps: int | None) -> dict[str, Any]:
    """Pruner arguments, with resources in optimizer steps unless the user has set them.

    Args:
        name: name of the pruner; pruners without resources keep their arguments.
        args: the user's arguments.
        val_every: steps between two reports: the minimum resource.
        max_steps: steps of a whole run: the maximum resource; None if unknown.
    """
    own: dict[str, Any] = {}
    if name in ("asha", "halving", "hyperband"):
        own["min_resource"] = val_every
    if name == "hyperband" and max_steps:
        own["max_resource"] = max_steps
    return {**own, **args}


def load_trial(storage: str, study: str, number: int) -> optuna.trial.Trial:
    """A trial, for reporting from another process; its study has the pruner that the sweep was started with."""
    optuna = import_optuna()
    opened = optuna.load_study(study_name=study, storage=open_storage(storage))
    opened.pruner = make_pruner(**opened.user_attrs["pruner"])
    found = next(t for t in opened.get_trials(deepcopy=False) if t.number == number)
    return optuna.trial.Trial(opened, found._trial_id)
