"""A sweep whose processes are all killed, started again by the same command: nothing repeated, the same results."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from itertools import product
from pathlib import Path

import pytest
import torch

from semiseg.api.runs import train_overrides
from semiseg.runs.checkpoint import load_checkpoint
from semiseg.runs.result import read_result
from support.processes import family, send
from support.tiny import tiny

pytestmark = pytest.mark.skipif(not Path("/proc").is_dir(), reason="finds processes in /proc")

SETTINGS = tiny(
    "data.n_train=32", "data.n_val=4", "protocol=", "max_steps=60", "val_every=20", "trainer.save_every=7",
    "model.width=8", "diagnostics.panels=0",
)  # fmt: skip
POOL = ["hydra/launcher=pool", "hydra.launcher.n_jobs=2"]
SUBMITIT = ["hydra/launcher=slurm_local"]
FULL = ["method=supervised,mean_teacher,unimatch", "protocol=shapes/1_16,shapes/1_8", "seed=0,1"]
SHORT = ["method=supervised,mean_teacher", "protocol=shapes/1_8"]


def start(runs: Path, *overrides: str) -> subprocess.Popen:
    command = [sys.executable, "-m", "semiseg", "train", "-m", *SETTINGS, f"paths.runs={runs}", *overrides]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True, start_new_session=True)


def completed(runs: Path) -> dict[str, float]:
    """Time at which each completed run was written, by folder."""
    folders = [p.parent for p in runs.rglob("result.json")]
    done = [f for f in folders if (read_result(f) or {}).get("status") == "completed"]
    return {f.relative_to(runs).as_posix(): (f / "result.json").stat().st_mtime_ns for f in done}


def wait_for(process: subprocess.Popen, condition) -> None:
    deadline = time.monotonic() + 400
    while not condition():
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < deadline, "nothing to kill"
        time.sleep(0.02)


def kill_all(process: subprocess.Popen) -> None:
    """SIGKILL to the sweep and everything below it, parents first so that nobody can tidy up."""
    send(family(process.pid), signal.SIGKILL)
    process.wait()


def check_kill_and_same_command(tmp_path: Path, jobs: list[str], launcher: list[str], n_jobs: int) -> None:
    unbroken, killed = tmp_path / "unbroken", tmp_path / "killed"
    for job in product(*([f"{o.partition('=')[0]}={v}" for v in o.partition("=")[2].split(",")] for o in jobs)):
        train_overrides([*SETTINGS, f"paths.runs={unbroken}", *job])

    sweep = start(killed, *jobs, *launcher)
    # Some runs are over, another has begun.
    wait_for(
        sweep, lambda: len(completed(killed)) >= n_jobs // 3 and len(list(killed.rglob("last.ckpt"))) > n_jobs // 3
    )
    kill_all(sweep)
    before = completed(killed)
    assert len(before) < n_jobs, "the sweep was over before it could be killed"

    sweep = start(killed, *jobs, *launcher)
    _, told = sweep.communicate()
    assert sweep.returncode == 0, told
    after = completed(killed)
    assert len(after) == n_jobs and after.keys() == completed(unbroken).keys()
    assert all(after[name] == when for name, when in before.items()), "a complete run was repeated"
    for name in after:
        a, b = read_result(unbroken / name), read_result(killed / name)
        assert a["miou"] == b["miou"] and a["iou_per_class"] == b["iou_per_class"]
        a, b = (load_checkpoint(root / name / "checkpoints/last.ckpt")["state_dict"] for root in (unbroken, killed))
        assert a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)
    print(
        f"{len(before)} of {n_jobs} runs were complete when the sweep was killed; all {n_jobs} equal the unbroken ones"
    )


@pytest.mark.cli
def test_a_killed_sweep_of_the_pool(tmp_path: Path) -> None:
    check_kill_and_same_command(tmp_path, SHORT, POOL, 2)


@pytest.mark.slow
@pytest.mark.cli
@pytest.mark.parametrize("launcher", [POOL, SUBMITIT], ids=["pool", "submitit"])
def test_a_killed_sweep_of_twelve_runs(launcher: list[str], tmp_path: Path) -> None:
    if launcher is SUBMITIT:
        pytest.importorskip("submitit")
    check_kill_and_same_command(tmp_path, FULL, launcher, 12)


@pytest.mark.cli
@pytest.mark.parametrize("how", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)])
def test_a_sweep_that_is_asked_to_stop_stops_its_jobs(how: signal.Signals, tmp_path: Path) -> None:
    sweep = start(tmp_path, "method=supervised,mean_teacher", "max_steps=100000", *POOL)
    wait_for(sweep, lambda: len(list(tmp_path.rglob("last.ckpt"))) == 2)
    members = family(sweep.pid)
    sweep.send_signal(how)
    _, told = sweep.communicate(timeout=60)
    assert sweep.returncode == 130 and "stopping 2 job(s)" in told
    results = [read_result(p.parent) for p in tmp_path.rglob("result.json")]
    assert [r["status"] for r in results] == ["interrupted"] * 2
    assert not any(Path(f"/proc/{pid}/status").exists() for pid in members)


@pytest.mark.cli
def test_jobs_end_with_their_sweep(tmp_path: Path) -> None:
    sweep = start(tmp_path, "method=supervised", "max_steps=100000", *POOL)
    wait_for(sweep, lambda: len(list(tmp_path.rglob("last.ckpt"))) == 1)
    members = family(sweep.pid)
    sweep.kill()
    sweep.wait()
    deadline = time.monotonic() + 30
    while any(Path(f"/proc/{pid}/status").exists() for pid in members) and time.monotonic() < deadline:
        time.sleep(0.05)
    (result,) = [read_result(p.parent) for p in tmp_path.rglob("result.json")]
    assert result["status"] == "interrupted"
