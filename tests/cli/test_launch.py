"""What becomes of a run with several processes when one of them fails, and who is one of several."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from semiseg.errors import InputError, RunFailed
from semiseg.training.launch import check_world, leave_error, placed, tell
from support.tiny import tiny

SMALL = tiny("batch.labeled=1", "batch.unlabeled=1", "max_steps=4", "val_every=4", "trainer.devices=2")
BROKEN = """
import os
from semiseg.methods.supervised import Supervised
real = Supervised.step
def step(self, batch):
    if os.environ["RANK"] == "1" and self.steps_done == 2:
        {harm}
    return real(self, batch)
Supervised.step = step
"""


def start(tmp_path: Path, harm: str) -> subprocess.CompletedProcess:
    """A run whose rank 1 comes to harm in its third step: every Python process below reads sitecustomize.py."""
    (tmp_path / "sitecustomize.py").write_text(
        "import os\nif os.environ.get('RANK') == '1':\n    import atexit, importlib.abc, sys\n" + HOOK
    )
    (tmp_path / "harm.py").write_text(BROKEN.format(harm=harm))
    path = os.pathsep.join([str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])])
    return subprocess.run(
        [sys.executable, "-m", "semiseg", "train", *SMALL, f"paths.runs={tmp_path}/runs"],
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": path}, capture_output=True, text=True, check=False,
    )  # fmt: skip


HOOK = """
    class Finder(importlib.abc.MetaPathFinder):
        def find_spec(self, name, path, target=None):
            if name == "semiseg.training.fit":
                sys.meta_path.remove(self)
                import harm
    sys.meta_path.insert(0, Finder())
"""


@pytest.mark.cli
@pytest.mark.ddp
@pytest.mark.parametrize(
    "harm,code,told",
    [
        ("raise ZeroDivisionError('by hand')", 1, "process 1 of the run: ZeroDivisionError: by hand"),
        ("os.kill(os.getpid(), 9)", 1, "process 1 of the run: killed by SIGKILL"),
    ],
)
def test_the_error_of_the_rank_that_failed_is_told(harm: str, code: int, told: str, tmp_path: Path) -> None:
    done = start(tmp_path, harm)
    assert done.returncode == code
    errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1 and errors[0].startswith(f"error: {told}"), done.stderr
    assert "Traceback" not in done.stderr and "ChildFailedError" not in done.stderr
    (path,) = tmp_path.rglob("result.json")
    result = json.loads(path.read_text())
    assert result["status"] == "failed" and result["error"].startswith(told)


@pytest.mark.cli
@pytest.mark.ddp
def test_wrong_input_that_the_processes_find(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "semiseg", "train", *SMALL, "data.n_train=0", f"paths.runs={tmp_path}/runs"],
        env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 2, done.stderr
    assert sum(line.startswith("error: ") for line in done.stderr.splitlines()) == 1 and "Traceback" not in done.stderr


def test_torchrun_and_srun_place_a_process() -> None:
    assert placed({}) is None
    assert placed({"LOCAL_RANK": "0", "RANK": "3", "WORLD_SIZE": "4"}) == (3, 4)
    step = {"SLURM_STEP_ID": "0", "SLURM_STEP_NUM_TASKS": "8", "SLURM_PROCID": "5", "SLURM_LOCALID": "1"}
    assert placed(step) == (5, 8)
    assert placed({"SLURM_JOB_ID": "1", "SLURM_NTASKS": "8", "SLURM_PROCID": "0"}) is None  # the script of a batch job
    assert placed({**step, "SLURM_STEP_NUM_TASKS": "1"}) is None  # one task that starts its own processes


def test_more_processes_than_the_configuration_asks_for(monkeypatch) -> None:
    monkeypatch.setenv("LOCAL_RANK", "0")
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "4")
    with pytest.raises(InputError, match=r"4 processes were started, but trainer.devices x trainer.num_nodes is 1"):
        check_world(1)
    check_world(4)


def error(rank: int, kind: str, line: str, time: float) -> dict:
    return {"rank": rank, "kind": kind, "line": line, "time": time}


def test_the_first_error_is_the_cause(tmp_path: Path) -> None:
    late, early = error(0, "failed", "connection reset", 2.0), error(1, "failed", "the cause", 1.0)
    with pytest.raises(RunFailed, match="process 1 of the run: the cause"):
        tell(tmp_path, None, [late, early], interrupted=False, code=1)
    with pytest.raises(RunFailed, match="process 1 of the run: killed by SIGKILL"):
        tell(tmp_path, None, [late, error(1, "killed", "killed by SIGKILL", 3.0)], interrupted=False, code=1)
    with pytest.raises(InputError, match=r"^no such file$"):
        tell(tmp_path, None, [late, error(1, "input", "no such file", 3.0)], interrupted=False, code=1)
    with pytest.raises(KeyboardInterrupt):
        tell(tmp_path, None, [error(0, "interrupted", "interrupted", 1.0)], interrupted=False, code=1)
    with pytest.raises(KeyboardInterrupt):
        tell(tmp_path, None, [late], interrupted=True, code=130)
    with pytest.raises(RunFailed, match="without giving a reason"):
        tell(tmp_path, None, [], interrupted=False, code=1)


def test_only_a_process_with_a_parent_leaves_its_error(tmp_path: Path, monkeypatch) -> None:
    assert not leave_error("failed", "a line")
    monkeypatch.setenv("SEMISEG_ERRORS", str(tmp_path))
    assert not leave_error("failed", "a line")  # the parent itself, of another job
    monkeypatch.setenv("LOCAL_RANK", "1")
    monkeypatch.setenv("RANK", "1")
    assert leave_error("failed", "a line")
    assert json.loads((tmp_path / "1.json").read_text())["line"] == "a line"
