"""Three coordinators on one Optuna study, one of them killed: no suggestion twice, none lost."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

pytest.importorskip("optuna")

from semiseg.errors import InputError
from semiseg.sweep.presence import Presence
from semiseg.sweep.pruner import load_trial, with_resources
from semiseg.sweep.space import split_space
from semiseg.sweep.storage import check_storage, default_storage, open_storage
from semiseg.sweep.study import Search, counted
from support import mariadb, postgres
from support.coordinate import N_TRIALS, SPACE

TESTS = Path(__file__).parents[1]


@contextlib.contextmanager
def journal(folder: Path) -> Iterator[str]:
    yield f"journal://{folder}/optuna.journal"


@contextlib.contextmanager
def postgresql(folder: Path) -> Iterator[str]:
    with postgres.server() as url:
        yield url


@contextlib.contextmanager
def mysql(folder: Path) -> Iterator[str]:
    with mariadb.server() as url:
        yield url


@pytest.mark.cli
@pytest.mark.parametrize(
    "storage,how",
    [
        (journal, signal.SIGKILL),
        (journal, signal.SIGSTOP),
        (postgresql, signal.SIGKILL),
        pytest.param(postgresql, signal.SIGSTOP, marks=pytest.mark.slow),
        pytest.param(mysql, signal.SIGKILL, marks=pytest.mark.slow),
        pytest.param(mysql, signal.SIGSTOP, marks=pytest.mark.slow),
    ],
)
def test_three_coordinators_one_lost(storage: Callable, how: signal.Signals, tmp_path: Path) -> None:
    mark = tmp_path / "third trial"
    with storage(tmp_path) as url:
        command = [sys.executable, "-m", "support.coordinate", url]
        processes = [subprocess.Popen([*command, str(rank), str(mark)], cwd=TESTS) for rank in range(3)]
        try:
            deadline = time.monotonic() + 240
            while not mark.exists():
                assert time.monotonic() < deadline
                time.sleep(0.02)
            processes[1].send_signal(how)
            for process in (processes[0], processes[2]):
                assert process.wait(240) == 0
        finally:
            for process in processes:
                process.kill()
                process.wait()
        search = Search(url, "three", split_space(SPACE)[1])
        trials = search.trials()
        assert len(trials) == N_TRIALS
        assert len({tuple(t.params.items()) for t in trials}) == N_TRIALS
        counts = search.counts()
        assert set(counts) == {"complete", "pruned"} and counts["pruned"] >= 3 and sum(counts.values()) == N_TRIALS
        assert search.best().value == max(t.value for t in trials if t.state.name == "COMPLETE")
        owners = {t.user_attrs["owner"] for t in trials}
        assert len(owners) == 3
        search.close()


def test_of_equal_suggestions_the_first_counts(tmp_path: Path) -> None:
    url, space = f"journal://{tmp_path}/optuna.journal", split_space(["optim.lr=choice(0.1,0.2)"])[1]
    first, second = (Search(url, "s", space, sampler="random") for _ in range(2))
    assert first._claim({"optim.lr": "0.1"}) is not None
    assert second._claim({"optim.lr": "0.1"}) is None, "the same settings twice"
    assert second._claim({"optim.lr": "0.2"}, limit=1) is None, "one too many"
    assert first.unasked(1) == 0 and len(counted(first.study.trials)) == 1
    assert second.ask(2).overrides == ("optim.lr=0.2",), "a suggestion that never ran is free again"
    assert first.ask(3) is None


def test_a_coordinator_is_gone_when_it_leaves_or_stands_still(tmp_path: Path) -> None:
    url, space = f"journal://{tmp_path}/optuna.journal", split_space(SPACE)[1]
    other, mine = Search(url, "s", space, lease=60), Search(url, "s", space)
    other.ask()
    observer = Presence(mine.study, lease=0.2)
    attrs = mine.study.user_attrs
    owner = other.presence.owner
    assert not observer.gone(owner, attrs)
    time.sleep(0.3)
    assert observer.gone(owner, attrs)
    elsewhere = "another machine|1|2|0"
    assert not observer.gone(elsewhere, {f"coordinator {elsewhere}": 4})
    time.sleep(0.3)
    assert not observer.gone(elsewhere, {f"coordinator {elsewhere}": 5})
    assert observer.gone(None, {})
    assert mine.take_over() == []
    other.close()
    assert len(mine.take_over()) == 1


def test_a_pruner_counts_resources_in_steps() -> None:
    assert with_resources("asha", {}, 500, 40000) == {"min_resource": 500}
    assert with_resources("hyperband", {"min_resource": 2}, 500, 40000) == {"min_resource": 2, "max_resource": 40000}
    assert with_resources("hyperband", {}, 500, None) == {"min_resource": 500}
    assert with_resources("median", {"n_startup_trials": 1}, 500, 40000) == {"n_startup_trials": 1}


@pytest.mark.parametrize("pruner", ["asha", "halving", "hyperband"])
def test_halving_pruners_stop_a_trial_that_is_behind(pruner: str, tmp_path: Path) -> None:
    args = with_resources(pruner, {"reduction_factor": 2}, 1, 4)
    url = f"journal://{tmp_path}/optuna.journal"
    search = Search(url, "s", split_space(SPACE)[1], pruner=pruner, pruner_args=args)
    pruned = 0
    for miou in (0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2):
        trial = load_trial(url, "s", search.ask().number)
        for step in (1, 2, 4):
            trial.report(miou, step)
            if trial.should_prune():
                pruned += 1
                break
    assert pruned >= 2


def test_an_older_study_in_sqlite_goes_on(tmp_path: Path) -> None:
    assert default_storage(tmp_path) == f"journal://{tmp_path}/optuna.journal"
    url = f"sqlite:///{tmp_path}/optuna.db"
    search = Search(url, "s", split_space(SPACE)[1])
    first = search.ask()
    search.close()
    assert default_storage(tmp_path) == url
    again = Search(default_storage(tmp_path), "s", split_space(SPACE)[1])
    assert [s.overrides for s in again.take_over()] == [first.overrides]


@pytest.mark.parametrize(
    "url,expected",
    [
        ("journal:/a", "absolute path"),
        ("journal:///nowhere/at/all/optuna.journal", "folder that exists"),
        ("nosuch://host/db", "cannot be opened"),
        ("mysql+nodriver://host/db", "cannot be opened"),
    ],
)
def test_a_storage_that_cannot_be_opened_is_named(url: str, expected: str) -> None:
    with pytest.raises(InputError, match=expected):
        open_storage(url)


def test_a_password_is_refused_and_not_repeated() -> None:
    with pytest.raises(InputError, match="pgpass") as e:
        check_storage("postgresql+psycopg://me:secret@host/db")
    assert "secret" not in str(e.value)
    check_storage("postgresql+psycopg://me@host:5432/db")
    check_storage("mysql+pymysql://me@host/db?read_default_file=/home/me/.my.cnf")
