"""What only constructors know is found for every job of a sweep before the first one starts."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from semiseg import cli
from semiseg.config import compose_config
from semiseg.config.check import options
from semiseg.config.settings import read_settings
from semiseg.runs.data import open_data
from semiseg.training import rehearsal
from semiseg.training.rehearsal import Rehearsal
from support.own_photos import write_photos
from support.tiny import tiny


@pytest.fixture
def sweep(monkeypatch, tmp_path: Path, capsys):
    """``semiseg train -m`` in an empty folder, of which no job may begin; returns (exit code, stderr)."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("semiseg.sweep.plan.Plan.launch", lambda *a: pytest.fail("a job began"))

    def run(*args: str) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["semiseg", "train", "-m", *tiny("diagnostics.panels=0", *args)])
        with pytest.raises(SystemExit) as stop:
            cli.main()
        return int(stop.value.code or 0), capsys.readouterr().err

    return run


@pytest.mark.parametrize(
    "jobs,told",
    [
        (["eval=whole,resize", "+eval.within=[64,64]", "+eval.size=[32,32]"], "eval"),
        (
            ["eval=resize", "eval.within=null,[64,64]"],
            "eval.within=[64,64]: eval: set one of multiple, size and within",
        ),
        (["eval=sliding", "eval.window=32", "eval.stride=0.5,0.01"], "eval.stride=0.01: eval.stride=0.01: must be at"),
        (
            ["method=cps", "method.mixing=cutmix,none", "method.strong_colors=true"],
            "method.mixing=none: method.strong_colors=true: applies to mixed images",
        ),
        (["method=u2pl", "method.contrast.ranks=[3,20],[20,3]"], "the first rank must be below the second"),
        (
            ["method=supervised,fixmatch", "protocol=shapes/all"],
            "method=fixmatch: the unlabeled list of shapes is empty",
        ),
        (["method=supervised,fixmatch", "batch.unlabeled=0"], "method=fixmatch: batch.unlabeled is 0"),
        (
            ["model=segformer_b0", "crop_size=64", "model.weights=none,gone.pth", "model.width="],
            "model.weights=gone.pth: model.weights=gone.pth: no such file",
        ),
    ],
)
def test_a_wrong_second_job_is_found_before_the_first(jobs: list[str], told: str, sweep, tmp_path: Path) -> None:
    code, said = sweep(*jobs)
    assert code == 2 and told in said and said.count("\n") == 1, said
    assert not list(tmp_path.rglob("sweep.json"))


def test_methods_are_built_once_for_all_jobs_that_have_them(monkeypatch) -> None:
    built = []
    real = rehearsal.assemble_method
    monkeypatch.setattr(rehearsal, "assemble_method", lambda *a: built.append(a) or real(*a))
    check, data = Rehearsal(), None
    for lr in (0.1, 0.2):
        for method in ("supervised", "unimatch"):
            settings = read_settings(compose_config(tiny(f"method={method}", f"optim.lr={lr}")))
            data = data or open_data(settings.make.dataset, settings.partition, settings.val_split)
            check(settings, data)
    assert len(built) == 2


@pytest.mark.parametrize("method", options("method"))
def test_every_method_is_built_without_memory(method: str) -> None:
    settings = read_settings(compose_config(tiny(f"method={method}")))
    Rehearsal()(settings, open_data(settings.make.dataset, settings.partition, settings.val_split))


@pytest.mark.parametrize("search", [[], ["hydra/sweeper=optuna", "hydra.sweeper.n_trials=2"]])
def test_two_roots_of_the_same_data_are_refused(search: list[str], sweep, tmp_path: Path) -> None:
    if search:
        pytest.importorskip("optuna")
    for name in ("a", "b"):
        write_photos(tmp_path / name)
    photos = ["data=folder", "data.size=", "data.n_train=", "data.n_val=", "protocol=folder/all"]
    code, said = sweep(*photos, "data.root=a,b", *search)
    assert code == 2 and "data.root=a and data.root=b contain the same data, both would be one run: give one" in said
