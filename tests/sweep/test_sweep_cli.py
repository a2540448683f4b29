"""Sweeps through the command line: failures told, done jobs left out, an Optuna study left and gone on with."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from semiseg.runs.result import read_result
from semiseg.sweep.storage import open_storage
from support.tiny import tiny

TINY = tiny("max_steps=", "val_every=", "model.width=8", "diagnostics.panels=0")


@pytest.fixture
def sweep(call, forked_jobs):
    """Exit code and messages of a sweep in an empty folder."""

    def run(*overrides: str) -> tuple[int, str]:
        keys = {o.split("=", 1)[0] for o in overrides}
        kept = [o for o in TINY if o.split("=", 1)[0] not in keys]
        code, _, told = call("train", "-m", *kept, *overrides)
        return code, told

    return run


@pytest.mark.cli
def test_a_failed_job_stops_nothing_and_is_retried_on_request_only(sweep, tmp_path: Path) -> None:
    jobs = ["max_steps=2", "val_every=2", "study=s"]
    code, told = sweep(*jobs, "optim.lr=0.05,-1.0")
    assert code == 2 and "optim.lr=-1.0: allowed are numbers above 0" in told, (
        "the second job is checked ahead of the first"
    )
    assert "] started" not in told and not list(tmp_path.rglob("result.json"))
    code, told = sweep(*jobs, "optim.lr=1e30,0.05", "max_steps=8")
    assert code == 1 and "sweep: 1 failed, 1 completed" in told
    assert "failed optim.lr=1e+30: " in told and "step" in told
    assert told.count("Traceback") == 0
    results = [p.parent for p in tmp_path.rglob("result.json")]
    (run,) = [folder for folder in results if read_result(folder)["status"] == "completed"]
    manifest = json.loads((tmp_path / "runs/s/sweep.json").read_text())
    assert manifest["planned"] == 2
    assert run.relative_to(tmp_path / "runs/s").as_posix() in [job["folder"] for job in manifest["jobs"]]

    # A run that failed while training: left alone, told, run again on request.
    good = json.loads((run / "result.json").read_text())
    (run / "result.json").write_text(json.dumps({**good, "status": "failed", "error": "RuntimeError: power cut"}))
    alone = [*jobs, "optim.lr=0.05", "max_steps=8"]
    code, told = sweep(*alone)
    assert code == 1 and "RuntimeError: power cut" in told and "0 to run" in told
    assert read_result(run)["status"] == "failed"
    code, told = sweep(*alone, "hydra.sweeper.retry_failed=true")
    assert code == 0 and read_result(run)["status"] == "completed"


@pytest.mark.cli
def test_an_optuna_study_prunes_survives_failures_and_goes_on(sweep, tmp_path: Path) -> None:
    optuna = pytest.importorskip("optuna")
    settings = [
        "study=search", "hydra/sweeper=optuna", "optim.lr=choice(0.05,1e-9,1e38)", "max_steps=8", "val_every=4",
        "hydra.sweeper.sampler=random", "hydra.sweeper.pruner_args={n_startup_trials: 1}",
    ]  # fmt: skip
    code, told = sweep(*settings, "hydra.sweeper.n_trials=1")
    assert code in (0, 1), told
    code, told = sweep(*settings, "hydra.sweeper.n_trials=3")
    assert code in (0, 1) and "sweep:" in told, told
    storage = open_storage(f"journal://{tmp_path}/runs/search/optuna.journal")
    study = optuna.load_study(study_name="search", storage=storage)
    assert {t.params["optim.lr"] for t in study.trials} == {"0.05", "1e-09", "1e+38"} and len(study.trials) == 3
    assert sorted(t.state.name for t in study.trials if t.params["optim.lr"] == "1e+38") == ["FAIL"]
    assert study.best_trial.params["optim.lr"] in ("0.05", "1e-09")
    for trial in study.trials:
        if trial.state.name == "PRUNED":
            errors = [(read_result(p.parent)["error"] or "") for p in tmp_path.rglob("result.json")]
            assert any(error.startswith("pruned at step 4") for error in errors)
            assert all("trial." not in read_result(p.parent)["command"] for p in tmp_path.rglob("result.json"))
    code, told = sweep(*settings, "hydra.sweeper.n_trials=3")
    assert code == 0 and "] started" not in told
