"""Several processes for one Hydra job: one torchrun, never Lightning's own launcher.

Lightning would run ``sys.argv`` again, which inside a sweep restarts the sweep: the ranks would then silently train on
different settings. The parent does not import torch; it forwards signals, and reads the outcome of the processes from
files: result.json, and one file per process that ended with an error.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from semiseg.config.quoting import quoted
from semiseg.errors import InputError, RunFailed
from semiseg.runs.files import write_json
from semiseg.runs.lease import check_held
from semiseg.runs.overwrite import restore_replaced
from semiseg.runs.result import RunResult, read_result

ERRORS = "SEMISEG_ERRORS"
"""Environment variable: folder where processes started by :func:`run_distributed` leave their errors."""

GRACE = 600
"""Seconds after a signal for processes to finish their step or validation and write a checkpoint."""


# -- in a process of the group --------------------------------------------------------------------------------


def rank() -> int:
    """Rank of this process in the run; 0 if it is the only one. Available before any process group exists."""
    place = placed()
    return place[0] if place else 0


def placed(environment: Mapping[str, str] = os.environ) -> tuple[int, int] | None:
    """(rank, number of processes) set by torchrun or srun; None for neither."""
    if "LOCAL_RANK" in environment:
        return int(environment.get("RANK", 0)), int(environment.get("WORLD_SIZE", 1))
    # SLURM_PROCID is also set in a batch script, which is not a step with several tasks.
    tasks = int(environment.get("SLURM_STEP_NUM_TASKS", 1))
    if "SLURM_STEP_ID" in environment and tasks > 1:
        return int(environment["SLURM_PROCID"]), tasks
    return None


def check_world(processes: int) -> None:
    """Check that the number of processes matches the configuration.

    Args:
        processes: trainer.devices times trainer.num_nodes.

    Raises:
        InputError: it does not; each process would train a separate run in the same folder.
    """
    if (place := placed()) and place[1] != processes:
        raise InputError(
            f"{place[1]} processes were started, but trainer.devices x trainer.num_nodes is {processes}: "
            "set both to what torchrun or srun starts"
        )


def leave_error(kind: str, line: str) -> bool:
    """Leave an error for the parent to report; False if this process was not started by semiseg."""
    folder = os.environ.get(ERRORS)
    if not folder or "LOCAL_RANK" not in os.environ:
        return False
    number = os.environ.get("RANK", "0")
    with contextlib.suppress(OSError):
        found = {"rank": int(number), "kind": kind, "line": line, "time": time.time()}
        write_json(Path(folder) / f"{number}.json", found)
    return True


def end_with_parent(parent: int) -> None:
    """Have the kernel kill this process when its parent ends, so that no orphan keeps writing to the run folder."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
    if os.getppid() != parent:
        os._exit(1)


# -- in the parent --------------------------------------------------------------------------------------------


def run_distributed(devices: int, nodes: int, folder: str | Path, overrides: Sequence[str]) -> RunResult:
    """Run the job's own overrides in ``devices`` processes on this machine, in the given folder.

    Raises:
        InputError: the processes found wrong input.
        RunFailed: a process failed; says which one, and why.
        KeyboardInterrupt: the processes were requested to stop, and did.
    """
    folder = Path(folder)
    restore_replaced(folder)
    if nodes > 1:
        raise InputError(
            f"trainer.num_nodes={nodes}: start 'torchrun --nnodes=N -m semiseg train ...' on each "
            "node, or 'srun semiseg train ...' with one task for each GPU"
        )
    with tempfile.TemporaryDirectory(prefix="semiseg_") as errors:
        command = [sys.executable, "-m", "semiseg.training.torchrun", str(os.getpid()), f"{errors}/launcher.json"]
        command += ["--standalone", f"--nproc_per_node={devices}", f"--shutdown_timeout={GRACE}"]
        command += [f"--log_dir={errors}/torchelastic"]  # otherwise it leaves folders in /tmp
        command += ["-m", "semiseg", "train", *overrides, quoted("hydra.run.dir", folder)]
        # A separate group: Ctrl-C reaches only the parent, which forwards it once.
        processes = subprocess.Popen(command, env={**os.environ, ERRORS: errors}, start_new_session=True)
        with passing_on(processes) as received:
            code = processes.wait()
        found = [json.loads(path.read_text()) for path in Path(errors).glob("*.json")]
    result = read_result(folder)
    if result is not None and (code == 0 or (result["status"] == "completed" and not found)):
        return result
    tell(folder, result, found, interrupted=bool(received), code=code)
    raise AssertionError  # tell always raises


@contextlib.contextmanager
def passing_on(processes: subprocess.Popen) -> Iterator[list[int]]:
    """Forward signals to the processes as SIGTERM; yields the received signals."""
    received: list[int] = []

    def pass_on(number: int, frame: Any) -> None:
        received.append(number)
        if len(received) == 1:  # torchrun would treat a second one as a request to exit faster
            processes.send_signal(signal.SIGTERM)

    if threading.current_thread() is not threading.main_thread():
        yield received
        return
    before = {n: signal.signal(n, pass_on) for n in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)}
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def tell(folder: Path, result: RunResult | None, found: list[dict[str, Any]], *, interrupted: bool, code: int) -> None:
    """Raise the error that ended the processes, and record it in result.json. The first error caused the others."""
    check_held()
    # A killed process is the cause of the errors in the others.
    found = sorted(found, key=lambda e: (e["kind"] != "killed", e["time"]))
    first = next((e for e in found if e["kind"] != "interrupted"), None)
    for error in found:
        if error["kind"] == "input":
            raise InputError(error["line"])
    if interrupted or (found and first is None):
        if result is not None and result["status"] == "failed":  # one process ended before the others had started
            write_json(folder / "result.json", {**result, "status": "interrupted", "error": "stopped while starting"})
        raise KeyboardInterrupt
    line = f"the processes ended with code {code} without giving a reason; see {folder}/log.txt"
    if first is not None:
        line = f"process {first['rank']} of the run: {first['line']}"
    if result is not None and result["status"] != "completed":
        result["status"], result["error"] = "failed", line
        write_json(folder / "result.json", result)
    raise RunFailed(line)
