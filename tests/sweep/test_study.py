"""Optuna studies: what is suggested, what a stop leaves, what becomes of failures. A formula stands for training."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

pytest.importorskip("optuna")

from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from semiseg.errors import InputError
from semiseg.sweep.jobs import Job, Outcome
from semiseg.sweep.pruner import load_trial
from semiseg.sweep.space import split_space
from semiseg.sweep.study import Search, Suggestion

SPACE = ["optim.lr=tag(log,interval(0.001,0.1))", "method.conf_threshold=choice(0.5,0.9)"]


def open_search(folder: Path, space: list[str] = SPACE, **options) -> Search:
    return Search(f"journal://{folder}/optuna.journal", "lr", split_space(space)[1], **options)


def outcome_of(suggestion: Suggestion, status: str = "completed") -> Outcome:
    lr = float(suggestion.overrides[0].split("=")[1])
    return Outcome(Job(suggestion.overrides, Path("run")), status, 1 - abs(math.log10(lr) + 2) / 2)


def advance(search: Search, n: int) -> list[Suggestion]:
    asked = []
    for _ in range(n):
        asked.append(search.ask())
        search.tell(asked[-1].number, outcome_of(asked[-1]))
    return asked


def test_a_space_is_read_from_overrides() -> None:
    fixed, space = split_space(
        ["seed=3", "a=interval(0,1)", "b=tag(log,int(interval(1,64)))", "c=range(2,9,2)", "d=x,null,0.5", "e=[1,2]"]
    )
    assert fixed == ["seed=3", "e=[1,2]"]
    assert space == {
        "a": FloatDistribution(0, 1) if isinstance(space["a"], FloatDistribution) else IntDistribution(0, 1),
        "b": IntDistribution(1, 64, log=True),
        "c": IntDistribution(2, 8, step=2),
        "d": CategoricalDistribution(["x", "null", "0.5"]),
    }
    assert split_space(["a=interval(0.0,1)"])[1] == {"a": FloatDistribution(0, 1)}


@pytest.mark.parametrize("line", ["a=tag(log,interval(0.0,1.0))", "a=interval(2.0,1.0)", "a=range(3,1)"])
def test_a_space_that_cannot_be_searched_is_named(line: str) -> None:
    with pytest.raises(InputError, match=r"^a="):
        split_space([line])


@pytest.mark.parametrize("sampler", ["tpe", "random"])
def test_a_study_left_and_opened_again_asks_what_an_unbroken_one_asks(sampler: str, tmp_path: Path) -> None:
    for name in ("whole", "broken"):
        (tmp_path / name).mkdir()
    whole = advance(open_search(tmp_path / "whole", sampler=sampler), 14)
    broken = [s for _ in range(7) for s in advance(open_search(tmp_path / "broken", sampler=sampler), 2)]
    assert whole == broken
    assert len({s.overrides for s in whole}) == 14


def test_a_trial_that_was_begun_is_found_again_with_its_settings(tmp_path: Path) -> None:
    search = open_search(tmp_path)
    advance(search, 2)
    begun = search.ask()
    search.tell(begun.number, outcome_of(begun, "interrupted"))
    search.close()
    again = open_search(tmp_path)
    assert again.waiting_for() == 1 and again.unasked(4) == 1
    (taken,) = again.take_over()
    assert taken.overrides == begun.overrides and again.unasked(4) == 1
    search.tell(begun.number, outcome_of(begun))  # too late: the trial is another's now
    assert again.counts() == {"complete": 2, "running": 1}
    again.tell(taken.number, outcome_of(taken))
    assert again.take_over() == [] and again.counts() == {"complete": 3}


def test_failed_trials_are_recorded_and_tried_again_on_request_only(tmp_path: Path) -> None:
    search = open_search(tmp_path)
    (good,) = advance(search, 1)
    bad = search.ask()
    search.tell(bad.number, outcome_of(bad, "failed"))
    assert search.counts() == {"complete": 1, "fail": 1} and search.unasked(3) == 1
    assert advance(search, 1)[0].overrides not in (good.overrides, bad.overrides)

    again = open_search(tmp_path)
    assert again.retry_failed() == 1 and again.unasked(3) == 1
    retried = again.ask()
    assert retried.overrides == bad.overrides
    again.tell(retried.number, outcome_of(retried))
    assert again.counts() == {"complete": 3} and again.unasked(3) == 0 and again.retry_failed() == 0


def test_a_finite_space_is_exhausted_without_repetition(tmp_path: Path) -> None:
    search = open_search(tmp_path, ["optim.lr=0.01,0.1", "seed=range(0,2)"], sampler="random")
    assert len({s.overrides for s in advance(search, 4)}) == 4
    assert search.ask() is None and search.counts() == {"complete": 4}


def test_a_trial_behind_the_others_is_pruned_in_the_process_of_its_job(tmp_path: Path) -> None:
    search = open_search(tmp_path, pruner="median", pruner_args={"n_startup_trials": 3})
    storage = f"journal://{tmp_path}/optuna.journal"
    for miou in (0.5, 0.6, 0.7):
        suggestion = search.ask()
        trial = load_trial(storage, "lr", suggestion.number)
        trial.report(miou, 10)
        assert not trial.should_prune()
        search.tell(suggestion.number, outcome_of(suggestion))
    for miou, pruned in ((0.3, True), (0.65, False)):
        suggestion = search.ask()
        trial = load_trial(storage, "lr", suggestion.number)
        trial.report(miou, 10)
        assert bool(trial.should_prune()) is pruned
        search.tell(suggestion.number, outcome_of(suggestion, "pruned" if pruned else "completed"))
    assert search.counts() == {"complete": 4, "pruned": 1}
    assert search.best().value == max(t.value for t in search.trials() if t.state.name == "COMPLETE")


@pytest.mark.parametrize(
    "options,expected",
    [
        ({"sampler": "tpee"}, "hydra.sweeper.sampler=tpee: did you mean 'tpe'"),
        ({"pruner": "medan"}, "hydra.sweeper.pruner=medan: did you mean 'median'"),
        ({"pruner": "median", "pruner_args": {"n_start": 3}}, "hydra.sweeper.pruner_args"),
    ],
)
def test_wrong_options_are_named(options: dict, expected: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=expected.replace(".", r"\.")):
        open_search(tmp_path, **options)


def test_a_study_keeps_its_space_and_settings(tmp_path: Path) -> None:
    open_search(tmp_path, fixed=["max_steps=100"])
    with pytest.raises(InputError, match="another search space"):
        open_search(tmp_path, SPACE[:1], fixed=["max_steps=100"])
    with pytest.raises(InputError, match=r"other settings \(max_steps=100\)"):
        open_search(tmp_path, fixed=["max_steps=200"])
    with pytest.raises(InputError, match="cannot be opened"):
        Search("sqlite:////nowhere/optuna.db", "lr", split_space(SPACE)[1])
    with pytest.raises(InputError, match="nothing to search"):
        open_search(tmp_path, ["seed=1"])
