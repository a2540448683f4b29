"""Workers on one folder: every planned run once, one worker frozen past its lease, one killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from semiseg.api.runs import train_overrides
from semiseg.commands.worker import main as worker_command
from semiseg.errors import InputError
from semiseg.runs.checkpoint import load_checkpoint
from semiseg.runs.files import write_json
from semiseg.runs.lease import take
from semiseg.runs.result import read_result
from semiseg.sweep.jobs import Job, Outcome
from semiseg.sweep.manifest import MANIFEST, read_manifest, write_manifest
from semiseg.sweep.worker import FAILED, Worker, lease_place, state
from support.processes import family, send

SETTINGS = [
    "data.size=[48,48]", "data.n_train=16", "data.n_val=4", "protocol=shapes/1_8", "crop_size=[32,32]",
    "batch.labeled=2", "batch.unlabeled=2", "trainer=debug", "loader.num_workers=0", "model.width=8",
    "diagnostics.panels=0", "val_every=20", "trainer.save_every=5", "study=w",
]  # fmt: skip


def jobs_in(study: Path, n: int = 3, **facts) -> list[Job]:
    overrides = ("method=supervised",)
    jobs = [Job(overrides, study / f"shapes/1_8/supervised/tiny/seed_{i}", f"seed={i}", **facts) for i in range(n)]
    write_manifest(jobs, ["method=supervised"])
    return jobs


def put_result(job: Job, status: str, error: str | None = None) -> None:
    job.folder.mkdir(parents=True, exist_ok=True)
    write_json(job.folder / "result.json", {"status": status, "error": error, "miou": {"best": 0.5}})


class Instant(Worker):
    """Runs are over as soon as they begin."""

    def __init__(self, study: Path, statuses: dict[str, list[str]] | None = None, **options) -> None:
        super().__init__(study, n_jobs=1, **options)
        self.statuses, self.started = statuses or {}, []

    def _begin(self, job: Job, lease) -> None:
        self._attempts[job.folder] = self._attempts.get(job.folder, 0) + 1
        self.started.append(job.label)
        status = self.statuses.get(job.label, ["completed"]).pop(0)
        if status != "killed":
            put_result(job, status, "ValueError: x" if status == "failed" else None)
        elif not (lease_place(job) / FAILED).exists():
            (lease_place(job) / FAILED).write_text("killed by SIGKILL\n")
        lease.release()
        self.outcomes[job.folder] = Outcome(job, status)


def test_a_plan_is_read_back(tmp_path: Path) -> None:
    jobs = jobs_in(tmp_path / "w", devices=2, on_gpu=True)
    assert read_manifest(tmp_path / "w") == jobs
    write_manifest(jobs[:1], ["again"])
    assert read_manifest(tmp_path / "w") == jobs


@pytest.mark.parametrize("text", ["{", "[]", '{"jobs": [{}]}', '{"jobs": 3}'])
def test_a_plan_that_cannot_be_read_is_named(text: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist: plan the study first"):
        read_manifest(tmp_path)
    (tmp_path / MANIFEST).write_text(text)
    with pytest.raises(InputError, match=r"sweep\.json cannot be read"):
        read_manifest(tmp_path)


def test_jobs_that_a_worker_cannot_run_are_refused(tmp_path: Path) -> None:
    jobs_in(tmp_path / "nodes", nodes=2)
    with pytest.raises(InputError, match="a worker uses one machine"):
        Worker(tmp_path / "nodes")
    write_manifest([Job(("trial.number=3",), tmp_path / "o/shapes/1_8/supervised/tiny/seed_0")], [])
    with pytest.raises(InputError, match="is an Optuna study"):
        Worker(tmp_path / "o")
    jobs_in(tmp_path / "w")
    with pytest.raises(InputError, match="n_jobs=0"):
        Worker(tmp_path / "w", n_jobs=0)


def test_a_secret_of_a_plan_is_typed_to_the_worker_again(tmp_path: Path) -> None:
    study = tmp_path / "w"
    folder = study / "shapes/1_8/supervised/tiny/seed_0"
    typed = ("seed=0", "+logger.mine.api_key=abc", "hub.url=https://me:pw@host", "method.contrast.keys_per_class=3")
    write_manifest([Job(typed, folder)], ["-m", *typed])
    assert "abc" not in (study / MANIFEST).read_text() and "pw@" not in (study / MANIFEST).read_text()
    with pytest.raises(InputError) as told:
        Worker(study)
    assert str(told.value) == (
        f"{study}/sweep.json does not hold the value of logger.mine.api_key, as passwords and keys are in no record: "
        f"give it to the worker, semiseg worker {study} logger.mine.api_key=VALUE hub.url=VALUE"
    )
    with pytest.raises(InputError, match=r"does not hold the value of hub\.url"):
        Worker(study, secrets=["logger.mine.api_key=abc"])
    again = ["+logger.mine.api_key=abc", "hub.url=https://me:pw@host"]
    assert Worker(study, secrets=again).jobs[0].overrides == typed
    with pytest.raises(InputError, match="seed cannot be given to a worker"):
        Worker(study, secrets=[*again, "seed=1"])


def test_the_command_takes_secrets_beside_its_own_arguments(tmp_path: Path, monkeypatch) -> None:
    taken = {}

    class Watched(Instant):
        def __init__(self, study: Path, *, n_jobs, lease, wait, retry_failed, secrets) -> None:
            taken.update(study=study, secrets=secrets)
            super().__init__(study, wait=wait, secrets=secrets)

    jobs_in(tmp_path / "w", 1)
    monkeypatch.setattr("semiseg.sweep.worker.Worker", Watched)
    assert worker_command([str(tmp_path / "w"), "wait=false"]) == 0
    with pytest.raises(InputError, match=r"hub\.token cannot be given"):
        worker_command([str(tmp_path / "w"), "hub.token=abc"])
    assert taken == {"study": tmp_path / "w", "secrets": ["hub.token=abc"]}
    with pytest.raises(InputError, match="unknown argument 'n_job=2': did you mean 'n_jobs'"):
        worker_command([str(tmp_path / "w"), "n_job=2"])


def test_a_worker_leaves_out_what_is_done_or_held(tmp_path: Path) -> None:
    jobs = jobs_in(tmp_path / "w", 4)
    put_result(jobs[0], "completed")
    held = take(lease_place(jobs[1]), jobs[1].folder, 60)
    put_result(jobs[2], "failed", "ValueError: x")
    worker = Instant(tmp_path / "w", wait=False)
    assert [o.status for o in worker.run()] == ["completed", "interrupted", "failed", "completed"]
    assert worker.started == ["seed=3"]
    held.release()
    again = Instant(tmp_path / "w", wait=False, retry_failed=True)
    assert {o.status for o in again.run()} == {"completed"}
    assert again.started == ["seed=1", "seed=2"]


def test_a_killed_run_counts_as_failed_for_all_workers(tmp_path: Path) -> None:
    (job,) = jobs_in(tmp_path / "w", 1)
    worker = Instant(tmp_path / "w", {"seed=0": ["killed"]})
    assert [str(o) for o in worker.run()] == ["failed seed=0: killed by SIGKILL"]
    assert Instant(tmp_path / "w").run()[0].status == "failed"
    again = Instant(tmp_path / "w", retry_failed=True)
    assert again.run()[0].status == "completed" and state(job).status == "completed"


def test_a_run_that_keeps_being_interrupted_is_given_up(tmp_path: Path) -> None:
    jobs_in(tmp_path / "w", 1)
    worker = Instant(tmp_path / "w", {"seed=0": ["interrupted"] * 9})
    for _ in range(5):
        assert worker.run()[0].status == "interrupted"
        worker._scanned = 0.0
    assert worker.started == ["seed=0"] * 3


# -- with training --------------------------------------------------------------------------------------------


def semiseg(folder: Path, *words: str) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-m", "semiseg", *words],
        cwd=folder,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def plan(folder: Path, *overrides: str) -> None:
    process = semiseg(folder, "train", "-m", *SETTINGS, *overrides, "hydra.sweeper.plan=true")
    assert process.wait() == 0, process.stderr.read()


def wait_for(condition, *processes: subprocess.Popen) -> None:
    deadline = time.monotonic() + 240
    while not condition():
        assert all(p.poll() is None for p in processes), [p.stderr.read() for p in processes if p.poll() is not None]
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.cli
@pytest.mark.skipif(not Path("/proc").is_dir(), reason="finds processes in /proc")
def test_a_frozen_worker_is_locked_out_and_a_killed_one_replaced(tmp_path: Path) -> None:
    """One run, begun by a worker that freezes, taken over by one that is killed, finished by the third."""
    plan(tmp_path, "method=mean_teacher", "max_steps=300")
    study = tmp_path / "runs/w"
    (job,) = read_manifest(study)
    last = job.folder / "checkpoints/last.ckpt"
    words = ["worker", "runs/w", "lease=2"]

    frozen = semiseg(tmp_path, *words, "wait=false")
    wait_for(last.exists, frozen)
    asleep = family(frozen.pid)
    send(asleep, signal.SIGSTOP)
    stopped_at = last.stat().st_mtime_ns

    killed = semiseg(tmp_path, *words)
    wait_for(lambda: last.stat().st_mtime_ns > stopped_at, killed)
    send(asleep, signal.SIGCONT)  # it wakes while another trains in its folder
    _, told = frozen.communicate(timeout=60)
    awake_at = time.time()
    send(family(killed.pid), signal.SIGKILL)
    killed.wait()
    assert "lost to another worker" in told and "completed" not in told.splitlines()[1], told

    third = semiseg(tmp_path, *words)
    _, told = third.communicate(timeout=240)
    assert third.returncode == 0, told
    assert "taking over" in told and "1 run(s) by this worker; the study: 1 completed" in told
    result = read_result(job.folder)
    assert result["status"] == "completed" and result["steps"] == 300
    assert (job.folder / "result.json").stat().st_mtime > awake_at

    alone = train_overrides([*job.overrides, "study=alone", f"paths.runs={tmp_path}/runs"])
    assert alone["miou"] == result["miou"]
    a, b = (load_checkpoint(Path(f) / "checkpoints/last.ckpt")["state_dict"] for f in (job.folder, alone["folder"]))
    assert all(torch.equal(a[key], b[key]) for key in a)


@pytest.mark.slow
@pytest.mark.cli
def test_two_workers_share_a_study(tmp_path: Path) -> None:
    plan(tmp_path, "method=supervised,mean_teacher", "seed=0,1", "max_steps=4", "val_every=2")
    workers = [semiseg(tmp_path, "worker", "runs/w") for _ in range(2)]
    told = [worker.communicate(timeout=240)[1] for worker in workers]
    assert [worker.returncode for worker in workers] == [0, 0], told
    begun = [line for text in told for line in text.splitlines() if line.startswith("starting")]
    assert len(begun) == len(set(begun)) == 4
    assert all("the study: 4 completed" in text for text in told)
    manifest = json.loads((tmp_path / "runs/w" / MANIFEST).read_text())
    assert manifest["planned"] == 4


@pytest.mark.slow
@pytest.mark.cli
def test_an_interrupted_worker_leaves_runs_that_go_on_at_once(tmp_path: Path) -> None:
    plan(tmp_path, "method=supervised", "max_steps=100000")
    (job,) = read_manifest(tmp_path / "runs/w")
    worker = semiseg(tmp_path, "worker", "runs/w")
    wait_for((job.folder / "checkpoints/last.ckpt").exists, worker)
    worker.send_signal(signal.SIGINT)
    worker.communicate(timeout=60)
    assert worker.returncode == 130 and read_result(job.folder)["status"] == "interrupted"
    lease = take(lease_place(job), job.folder, 60)
    assert lease is not None and not lease.taken_over
