"""A sweep knows the data of its jobs: two roots are two runs, a study of other data is not answered from."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from support.own_photos import write_mask, write_photos
from support.tiny import tiny

pytest.importorskip("optuna")


@pytest.fixture
def sweep(call, forked_jobs):
    """``semiseg train -m`` in an empty folder; returns (exit code, stderr)."""

    def run(*args: str) -> tuple[int, str]:
        photos = ("data=folder", "data.size=", "data.n_train=", "data.n_val=", "protocol=folder/all", "study=s")
        code, _, told = call("train", "-m", *tiny(*photos, "diagnostics.panels=0", *args))
        return code, told

    return run


@pytest.mark.cli
def test_two_roots_are_two_runs_and_a_moved_one_is_the_same(sweep, tmp_path: Path) -> None:
    for name, size in (("a", 40), ("b", 44)):
        write_photos(tmp_path / name, size=size)
    code, told = sweep("data.root=a,b")
    assert code == 0, told
    results = sorted(tmp_path.rglob("result.json"))
    digests = {json.loads(path.read_text())["data_fingerprint"] for path in results}
    assert len(results) == len(digests) == 2
    jobs = json.loads((tmp_path / "runs/s/sweep.json").read_text())["jobs"]
    assert {job["data_fingerprint"] for job in jobs} == digests
    (tmp_path / "a").rename(tmp_path / "c")
    code, told = sweep("data.root=c,b")
    assert code == 0 and told.count("skipped: completed") == 2, told


@pytest.mark.cli
def test_a_study_of_other_data_is_not_answered_from(sweep, tmp_path: Path) -> None:
    write_photos(tmp_path / "a")
    search = ("data.root=a", "hydra/sweeper=optuna", "hydra.sweeper.n_trials=1", "optim.lr=choice(0.1,0.2)")
    assert sweep(*search)[0] == 0
    write_mask(tmp_path / "a", "train", 7)
    code, told = sweep(*search)
    assert code == 2 and "study s was started with other data: choose another study=NAME" in told
