"""What a sweep does with jobs that are done, failed or begun, and which places jobs run in. No training."""

from __future__ import annotations

from pathlib import Path

import pytest

from semiseg.errors import InputError
from semiseg.runs.files import write_json
from semiseg.runs.lock import hold
from semiseg.sweep.jobs import Job, outcome
from semiseg.sweep.plan import merge
from semiseg.sweep.processes import run_processes
from semiseg.sweep.slots import make_slots, visible_gpus


@pytest.mark.parametrize(
    "written,said,expected",
    [
        (None, None, "interrupted"),
        (None, "Killed", "failed"),
        (None, "interrupted", "interrupted"),
        (("completed", None), None, "completed"),
        (("interrupted", "pruned at step 20: behind"), "interrupted", "pruned"),
        (("interrupted", "stopped at step 3"), "interrupted", "interrupted"),
        (("interrupted", "stopped at step 3"), "killed by SIGKILL", "failed"),
        (("failed", "ValueError: x"), None, "failed"),
        (("failed", "ValueError: x"), "interrupted", "interrupted"),
    ],
)
def test_what_became_of_a_job(written, said, expected, tmp_path: Path) -> None:
    if written:
        write_json(tmp_path / "result.json", {"status": written[0], "error": written[1], "miou": {"best": 0.5}})
    found = outcome(Job((), tmp_path), said)
    assert found.status == expected
    if expected == "failed":
        assert found.error == (said or written[1])


def test_slots_split_gpus_and_cores(monkeypatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    gpus = ["0", "1", "2", "3"]
    assert [s["CUDA_VISIBLE_DEVICES"] for s in make_slots(None, 1, gpus, 16)] == gpus
    assert [s["CUDA_VISIBLE_DEVICES"] for s in make_slots(None, 2, gpus, 16)] == ["0,1", "2,3"]
    assert [s["CUDA_VISIBLE_DEVICES"] for s in make_slots(3, 1, gpus[:2], 16)] == ["0", "1", "0"]
    assert make_slots(None, 1, [], 16) == [{}] and make_slots(1, 1, [], 16) == [{}]
    assert make_slots(4, 1, [], 16) == [{"OMP_NUM_THREADS": "4"}] * 4
    assert make_slots(4, 2, [], 2) == [{"OMP_NUM_THREADS": "1"}] * 4
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert make_slots(2, 1, [], 16) == [{}, {}]
    with pytest.raises(InputError, match="n_jobs=0"):
        make_slots(0, 1, [], 4)
    with pytest.raises(InputError, match=r"trainer\.devices=4: this machine has 2"):
        make_slots(None, 4, gpus[:2], 4)


def test_gpus_are_those_the_environment_leaves_visible() -> None:
    assert visible_gpus({"CUDA_VISIBLE_DEVICES": "2, GPU-ab"}) == ["2", "GPU-ab"]
    assert visible_gpus({"CUDA_VISIBLE_DEVICES": ""}) == visible_gpus({"CUDA_VISIBLE_DEVICES": "-1"}) == []


def test_the_command_line_has_the_last_word_on_a_sweep_file() -> None:
    assert merge({"seed": "0,1", "method": "a,b"}, ["method=c", "x=1"]) == ["seed=0,1", "method=c", "x=1"]


def test_jobs_that_cannot_start_are_told_in_the_order_of_jobs(forked_jobs, tmp_path: Path) -> None:
    jobs = [Job((f"methd={i}", f"paths.runs={tmp_path}"), tmp_path / str(i)) for i in range(2)]
    found = run_processes(jobs, [{}, {}])
    assert [f.job for f in found] == jobs
    assert all(f.status == "failed" and "unknown key 'methd'" in f.error for f in found)


def test_a_folder_is_held_by_one(tmp_path: Path) -> None:
    with hold(tmp_path), pytest.raises(InputError, match="in use by another process"), hold(tmp_path, 0):
        pass
    with hold(tmp_path, 0):
        pass
