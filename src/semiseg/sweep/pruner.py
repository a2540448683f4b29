"""Optuna's pruners by name, and a trial as its own run sees it. Free of torch; Optuna is imported when used."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from semiseg.errors import InputError, suggest

if TYPE_CHECKING:
    import optuna

PRUNERS = {"median": "MedianPruner", "halving": "SuccessiveHalvingPruner", "none": "NopPruner"}


def import_optuna() -> Any:
    """Optuna, quiet.

    Raises:
        InputError: it is not installed.
    """
    try:
        import optuna
    except ModuleNotFoundError as e:
        raise InputError("hydra/sweeper=optuna needs Optuna: pip install 'semiseg[sweep]'") from e
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna


def make_pruner(name: str, args: Mapping[str, Any]) -> optuna.pruners.BasePruner:
    """The pruner called ``name``, with arguments of Optuna's constructor.

    Raises:
        InputError: no such pruner, or an argument that it does not take.
    """
    if name not in PRUNERS:
        raise InputError(f"hydra.sweeper.pruner={name}: {suggest(name, PRUNERS)}")
    try:
        return getattr(import_optuna().pruners, PRUNERS[name])(**args)
    except (TypeError, ValueError) as e:
        raise InputError(f"hydra.sweeper.pruner_args={dict(args)}: {e}") from e


def open_storage(url: str) -> optuna.storages.BaseStorage:
    """The storage of studies behind a URL; jobs that run side by side wait for each other.

    Raises:
        InputError: it cannot be opened.
    """
    optuna = import_optuna()
    waiting = {"connect_args": {"timeout": 120}} if url.startswith("sqlite") else {}
    try:
        return optuna.storages.RDBStorage(url, engine_kwargs=waiting)
    except Exception as e:  # sqlalchemy has an exception for every kind of mistake
        line = str(e).splitlines()[0] if str(e) else type(e).__name__
        raise InputError(f"hydra.sweeper.storage={url} cannot be opened: {line}") from e


def load_trial(storage: str, study: str, number: int) -> optuna.trial.Trial:
    """A trial that goes on in this process; its study has the pruner that the sweep was begun with."""
    optuna = import_optuna()
    opened = optuna.load_study(study_name=study, storage=open_storage(storage))
    opened.pruner = make_pruner(**opened.user_attrs["pruner"])
    found = next(t for t in opened.get_trials(deepcopy=False) if t.number == number)
    return optuna.trial.Trial(opened, found._trial_id)
