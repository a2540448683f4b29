"""Slurm through submitit: what the script asks for, a limit of jobs in the queue, a job queued again near its end."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from pathlib import Path

import pytest

pytest.importorskip("submitit")

from semiseg.errors import InputError
from semiseg.runs.result import read_result
from semiseg.sweep import submitit_jobs
from semiseg.sweep.jobs import Job
from semiseg.sweep.submitit_jobs import run_submitit
from support import fake_slurm
from support.processes import family

SETTINGS = (
    "data.size=[48,48]", "data.n_train=16", "data.n_val=4", "protocol=shapes/1_8", "crop_size=[32,32]",
    "batch.labeled=2", "batch.unlabeled=2", "trainer=debug", "loader.num_workers=0", "model.width=8",
    "diagnostics.panels=0", "method=supervised",
)  # fmt: skip


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch) -> Path:
    for key, value in fake_slurm.install(tmp_path / "slurm").items():
        monkeypatch.setenv(key, value)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.chdir(tmp_path)
    return tmp_path / "slurm"


def job(folder: Path, seed: int, *overrides: str, **facts) -> Job:
    return Job((*SETTINGS, f"seed={seed}", *overrides), folder / f"runs/s/seed_{seed}", f"seed={seed}", **facts)


def submit(jobs: list[Job], folder: Path, **options):
    given = {"timeout_min": 60, "cpus_per_task": 3, **options.pop("parameters", {})}
    return run_submitit(
        jobs,
        cluster="slurm",
        folder=folder / "submitit/%j",
        parameters=given,
        max_num_timeout=3,
        every=0.2,
        ask_every=1,
        **options,
    )


def scripts(cluster: Path) -> list[dict[str, str]]:
    return [json.loads(line) for line in (cluster / "jobs.jsonl").read_text().splitlines()]


@pytest.mark.cli
def test_the_script_asks_for_what_the_jobs_need_and_the_queue_is_limited(
    cluster: Path, tmp_path: Path, monkeypatch
) -> None:
    monkeypatch.setattr(submitit_jobs, "Call", fake_slurm.Quick)
    monkeypatch.setenv("PYTHONPATH", f"{Path(__file__).parents[1]}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
    jobs = [job(tmp_path, seed) for seed in range(4)] + [job(tmp_path, 4, devices=4, on_gpu=True)]
    asked = {
        "name": "semiseg", "partition": "gpu", "account": "lab", "qos": None, "mem_gb": 16, "array_parallelism": 2,
        "signal_delay_s": 300, "additional_parameters": {"requeue": True}, "setup": ["module load cuda"],
    }  # fmt: skip
    outcomes = submit(jobs, tmp_path, max_queued=3, parameters=asked)
    assert [o.status for o in outcomes] == ["completed", "failed", "completed", "completed", "completed"]
    assert [o.job for o in outcomes] == jobs and outcomes[0].miou == 0.5
    assert int((cluster / "most").read_text()) <= 3
    found = scripts(cluster)
    assert found[0]["array"] == "0-2%2"
    for script in found:
        assert (script["partition"], script["account"], script["job-name"]) == ("gpu", "lab", "semiseg")
        assert script["time"] == "60" and script["signal"] == "USR2@300" and script["requeue"] == ""
        assert script["mem"] == "16GB" and script["cpus-per-task"] == "3"
        assert "qos" not in script and "module load cuda" in script["script"]
        assert script["nodes"] == "1" and script["ntasks-per-node"] == "1"
    assert {script["gpus-per-node"] for script in found} == {"0", "4"}
    assert found[-1]["gpus-per-node"] == "4", "jobs of another shape are an array of their own"


@pytest.mark.cli
def test_a_job_near_its_time_limit_saves_itself_and_is_queued_again(cluster: Path, tmp_path: Path) -> None:
    long = job(tmp_path, 0, "max_steps=300", "val_every=100", "trainer.save_every=5")
    outcomes: list = []
    sweep = threading.Thread(target=lambda: outcomes.extend(submit([long], tmp_path)))
    sweep.start()
    deadline = time.monotonic() + 240
    while not (long.folder / "checkpoints/last.ckpt").exists():
        assert sweep.is_alive() and time.monotonic() < deadline
        time.sleep(0.05)
    # Slurm sends the signal to all processes of the job.
    for pid in family(int((cluster / "tasks/100").read_text().split()[1]))[1:]:  # not the script
        os.kill(pid, signal.SIGUSR2)
    sweep.join(240)
    (found,) = outcomes
    assert found.status == "completed", found
    assert read_result(long.folder)["steps"] == 300
    text = (long.folder / "log.txt").read_text()
    assert "resumes from" in text, text


def test_wrong_parameters_and_a_missing_cluster_are_named(tmp_path: Path, monkeypatch) -> None:
    with pytest.raises(InputError, match=r"hydra\.launcher: .*srun"):
        submit([job(tmp_path, 0)], tmp_path)
    for key, value in fake_slurm.install(tmp_path / "slurm").items():
        monkeypatch.setenv(key, value)
    with pytest.raises(InputError, match=r"hydra\.launcher: .*partitoin"):
        submit([job(tmp_path, 0)], tmp_path, parameters={"partitoin": "gpu"})
