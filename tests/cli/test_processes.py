"""What needs processes of its own: SIGKILL at an arbitrary step and the same command again; several processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from semiseg.api.runs import train_overrides
from semiseg.runs.checkpoint import load_checkpoint
from semiseg.runs.result import read_result
from support.tiny import tiny

STEPS = 90
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}
OVERRIDES = tiny(
    "method=mean_teacher", "data.n_train=32", "data.n_val=4", f"max_steps={STEPS}", "val_every=30",
    "trainer.save_every=7", "loader.num_workers=1", "model.width=8",
)  # fmt: skip
COMMAND = [sys.executable, "-m", "semiseg", "train", *OVERRIDES]


def last_checkpoint(runs: Path) -> Path | None:
    return next(iter(runs.rglob("last.ckpt")), None)


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("unbroken")
    train_overrides([*OVERRIDES, f"paths.runs={folder}"])
    return folder


@pytest.mark.cli
@pytest.mark.parametrize("how,code", [(signal.SIGKILL, -signal.SIGKILL), (signal.SIGINT, 130), (signal.SIGTERM, 130)])
def test_a_stopped_run_ends_with_the_weights_of_an_unbroken_one(
    how: signal.Signals, code: int, unbroken: Path, tmp_path: Path
) -> None:
    killed = tmp_path
    start = [*COMMAND, f"paths.runs={killed}"]
    process = subprocess.Popen(start, env=ENVIRONMENT, stderr=subprocess.DEVNULL, start_new_session=True)
    deadline = time.monotonic() + 120
    while last_checkpoint(killed) is None and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(0.15)  # somewhere between two checkpoints
    assert process.poll() is None, "the run was over before it could be killed"
    os.killpg(process.pid, how)
    assert process.wait() == code
    checkpoint = last_checkpoint(killed)
    assert load_checkpoint(checkpoint)["global_step"] < STEPS
    if how != signal.SIGKILL:
        assert read_result(checkpoint.parents[1])["status"] == "interrupted"

    train_overrides([*OVERRIDES, f"paths.runs={killed}"])
    a, b = (load_checkpoint(last_checkpoint(folder)) for folder in (unbroken, killed))
    assert a["global_step"] == b["global_step"] == STEPS
    assert any(k.startswith("teacher.") for k in a["state_dict"])
    assert all(torch.equal(a["state_dict"][k], b["state_dict"][k]) for k in a["state_dict"])
    assert a["callbacks"]["RunRecord"]["best"] == b["callbacks"]["RunRecord"]["best"]


@pytest.mark.cli
@pytest.mark.ddp
def test_two_processes_make_one_run(tmp_path: Path) -> None:
    small = [v for v in COMMAND if not v.startswith(("max_steps", "val_every"))]
    done = subprocess.run(
        [*small, "max_steps=3", "val_every=2", "trainer.devices=2", f"paths.runs={tmp_path}"],
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    (result,) = map(read_result, (p.parent for p in tmp_path.rglob("result.json")))
    assert result["status"] == "completed" and result["world_size"] == 2 and result["steps"] == 3
    assert "2 process(es)" in done.stderr and done.stderr.count("done: mIoU") == 1
