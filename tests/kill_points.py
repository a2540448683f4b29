"""Kill runs at random moments, resume them by the same command, compare with the unbroken run bit by bit.

    python tests/kill_points.py --points 50

Every method comes in turn, with 1 process and with 2 (torchrun). Drawn at random: SIGKILL or SIGTERM, who gets it (the
command, all its processes, or one rank), the moment, and the number of data workers. Compared: every tensor of
last.ckpt and best.ckpt (weights of all networks, buffers, optimizer), every value of metrics.csv but times, and the
scores of result.json.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import itertools
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

import torch

STEPS = 24
CONF = Path(__file__).parents[1] / "conf"
METHODS = sorted(path.stem for path in (CONF / "method").glob("*.yaml"))
# No interval divides another: checkpoints fall between lines of metrics.csv, and between validations.
OVERRIDES = [
    "data.size=[40,40]", "data.n_train=24", "data.n_val=3", "protocol=shapes/1_8", "crop_size=[32,32]",
    "batch.labeled=1", "batch.unlabeled=2", f"max_steps={STEPS}", "val_every=9", "trainer=debug",
    "trainer.log_every=4", "trainer.save_every=5", "diagnostics.panels=1", "diagnostics.pseudo_labels=true",
    "model.width=4",
]  # fmt: skip
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "NO_ALBUMENTATIONS_UPDATE": "1"}


class Point(NamedTuple):
    """One kill."""

    method: str
    processes: int
    how: str  # SIGKILL, SIGTERM
    who: str  # command, all, rank
    share: float  # of the unbroken training time
    workers: int


def draw(rng: random.Random, method: str, processes: int) -> Point:
    who = rng.choice(["command", "all", "rank"]) if processes > 1 else "command"
    how = rng.choice(["SIGKILL", "SIGTERM"])
    return Point(method, processes, how, who, rng.random(), rng.choice([0, 1]))


def command(point: Point, runs: Path) -> list[str]:
    own = [f"method={point.method}", f"trainer.devices={point.processes}", f"loader.num_workers={point.workers}"]
    contrast = ["method.contrast.queue_size=64", "method.contrast.first_queue_size=64"]
    small = contrast if point.method.startswith("u2pl") else []
    return [sys.executable, "-m", "semiseg", "train", *OVERRIDES, *own, *small, f"paths.runs={runs}"]


def run_folder(runs: Path) -> Path | None:
    return next((path.parent for path in runs.rglob("config.yaml")), None)


def children(pid: int) -> list[int]:
    """All processes below ``pid``."""
    below: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rsplit(")", 1)[1].split()
        except OSError:
            continue
        below.setdefault(int(fields[1]), []).append(int(stat.parent.name))
    found, todo = [], [pid]
    while todo:
        found += (new := below.get(todo.pop(), []))
        todo += new
    return found


def ranks(pid: int) -> list[int]:
    """The processes that train, of a command with several."""
    found = []
    for child in children(pid):
        try:
            if b"LOCAL_RANK=" in Path(f"/proc/{child}/environ").read_bytes():
                found.append(child)
        except OSError:
            continue
    return [child for child in found if not any(child in children(other) for other in found)]


class Started:
    """The processes of one run: those of its command, or, with ``fork``, one of this script for each rank."""

    def __init__(self, point: Point, runs: Path, fork: bool) -> None:
        self.runs, self.fork, self.errors = runs, fork, runs.with_suffix(".stderr")
        with self.errors.open("wb") as errors:
            if fork:
                port = str(random.randrange(20000, 30000))
                self.pids = [forked(point, runs, rank, port, errors.fileno()) for rank in range(point.processes)]
            else:
                process = subprocess.Popen(command(point, runs), env=ENVIRONMENT, stderr=errors, start_new_session=True)
                process.returncode = 0  # waited for below
                self.pids = [process.pid]
        self.codes: dict[int, int] = {}

    def running(self) -> bool:
        for pid in self.pids:
            if pid not in self.codes and (ended := os.waitpid(pid, os.WNOHANG))[0]:
                self.codes[pid] = os.waitstatus_to_exitcode(ended[1])
        return len(self.codes) < len(self.pids)

    def wait(self) -> list[int]:
        """Exit codes. Ends what takes too long: ranks that outlive another, as torchrun would; anything else hangs."""
        end = time.monotonic() + 300
        while self.running():
            time.sleep(0.01)
            if self.codes and any(self.codes.values()):
                end = min(end, time.monotonic() + 5)
            if time.monotonic() > end:
                if not self.codes:
                    raise AssertionError(f"process {self.pids} hangs: {self.errors.read_text()[-2000:]}")
                for pid in self.pids:
                    if pid not in self.codes:
                        os.kill(pid, signal.SIGKILL)
        return [self.codes[pid] for pid in self.pids]

    def wait_for_folder(self) -> None:
        while self.running() and run_folder(self.runs) is None:
            time.sleep(0.01)

    def get(self, who: str) -> list[int]:
        if self.fork:
            return self.pids[-1:] if who == "rank" else self.pids
        (pid,) = self.pids
        return {"command": [pid], "all": [*children(pid), pid], "rank": ranks(pid)[-1:]}[who]


def forked(point: Point, runs: Path, rank: int, port: str, errors: int) -> int:
    """A process that has imported everything already, placed as torchrun or srun would place it."""
    if pid := os.fork():
        return pid
    code = 1
    try:
        os.setsid()
        os.dup2(errors, 2)
        os.environ.update(ENVIRONMENT)
        if point.processes > 1:
            place = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": point.processes, "LOCAL_WORLD_SIZE": 2}
            place |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "TORCHELASTIC_RUN_ID": "kill_points"}
            os.environ.update({key: str(value) for key, value in place.items()})
        sys.argv = ["semiseg", *command(point, runs)[3:]]
        from semiseg.cli import main as semiseg

        semiseg()
    except SystemExit as e:
        code = int(e.code or 0)
    finally:
        os._exit(code)


def whole_run(point: Point, runs: Path, fork: bool) -> tuple[Path, float]:
    """Run to the end. Returns the run folder and the seconds from the folder to the end."""
    run = Started(point, runs, fork)
    run.wait_for_folder()
    began = time.monotonic()
    codes, folder = run.wait(), run_folder(runs)
    if any(codes) or folder is None:
        raise AssertionError(f"the run ended with {codes}: {run.errors.read_text()[-2000:]}")
    return folder, time.monotonic() - began


def kill(point: Point, runs: Path, seconds: float, fork: bool) -> str:
    """Start, kill, and wait for the end. Returns what was wrong about that end, "" when nothing was."""
    run = Started(point, runs, fork)
    run.wait_for_folder()
    time.sleep(point.share * seconds)
    number = signal.Signals[point.how]
    for pid in run.get(point.who) if run.running() else []:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
    codes = run.wait()
    if left := [pid for leader in run.pids for pid in children(leader)]:
        return f"processes {left} outlived the run"
    if not any(codes) or over(runs):
        return "late"
    if point.how == "SIGTERM" and not list(runs.rglob("metrics.csv")):
        return ""  # ahead of the first step a signal just ends the processes
    expected = {130} if point.how == "SIGTERM" else {-signal.SIGKILL, 1} if point.who == "rank" else {-signal.SIGKILL}
    if not set(codes) <= expected:
        return f"codes {codes} after {point.how} instead of {expected}: {run.errors.read_text()[-2000:]}"
    return lost_steps(runs) if point.how == "SIGTERM" else ""


def over(runs: Path) -> bool:
    """Whether the run was complete when the signal came."""
    folder = run_folder(runs)
    result = folder / "result.json" if folder else None
    return bool(result and result.exists() and json.loads(result.read_text())["status"] == "completed")


def reached(runs: Path) -> int:
    """Steps in the newest checkpoint; 0 when there is none."""
    last = next(runs.rglob("last.ckpt"), None)
    return torch.load(last, weights_only=True)["global_step"] if last else 0


def lost_steps(runs: Path) -> str:
    """A run that was asked to stop keeps all its steps."""
    folder = run_folder(runs)
    if folder is None or not (folder / "result.json").exists():
        return ""  # ahead of the first step
    result = json.loads((folder / "result.json").read_text())
    if result["status"] != "interrupted":
        return f"status {result['status']} ({result['error']}) instead of interrupted"
    saved = reached(runs)
    return "" if saved == result["steps"] else f"{result['steps']} steps done, {saved} in the checkpoint"


def tensors(value: Any, name: str = "") -> dict[str, Any]:
    """Every leaf of a checkpoint by its path, without times and what names the run."""
    if isinstance(value, dict):
        skipped = ("seconds_training", "seconds_validation", "peak_memory_mb", "semiseg", "loops")
        parts = [tensors(v, f"{name}/{k}") for k, v in value.items() if k not in skipped]
        return {k: v for part in parts for k, v in part.items()}
    if isinstance(value, (list, tuple)):
        return tensors(dict(enumerate(value)), name)
    return {name: value}


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "metrics.csv").open() as f:
        return [{k: v for k, v in row.items() if k not in ("time/step", "memory/peak_mb")} for row in csv.DictReader(f)]


def differences(one: Path, two: Path) -> list[str]:
    """What two run folders do not have in common."""
    found = []
    for name in ("last", "best"):
        a, b = (tensors(torch.load(f / f"checkpoints/{name}.ckpt", weights_only=True)) for f in (one, two))
        if a.keys() != b.keys():
            found.append(f"{name}.ckpt: keys {sorted(a.keys() ^ b.keys())[:3]}")
            continue
        for key in a:
            x, y = a[key], b[key]
            if not (torch.equal(x, y) if isinstance(x, torch.Tensor) else x == y or (x != x and y != y)):
                found.append(f"{name}.ckpt: {key}")
    if rows(one) != rows(two):
        pairs = zip(rows(one), rows(two))
        odd = [f"step {a['step']} {k}" for a, b in pairs for k in a if a[k] != b.get(k)]
        found.append(f"metrics.csv: {odd[:5] or 'number of rows'}")
    a, b = (json.loads((f / "result.json").read_text()) for f in (one, two))
    found += [f"result.json: {k}" for k in ("status", "steps", "miou", "iou_per_class", "error") if a[k] != b[k]]
    return found


def survives(point: Point, unbroken: tuple[Path, float], runs: Path, fork: bool = False) -> tuple[str, list[str]]:
    """Kill and resume one run. A kill that came when all was over is done again, earlier."""
    folder, seconds = unbroken
    while (wrong := kill(point, runs, seconds, fork)) == "late":
        shutil.rmtree(runs)
        point = point._replace(share=point.share * 0.7)
    told = f"{point.method}, {point.processes} processes, {point.how} to {point.who}, resumed at step {reached(runs)}"
    resumed, _ = whole_run(point, runs, fork)
    return told, ([wrong] if wrong else []) + differences(folder, resumed)


def main(points: int, seed: int, base: Path, fork: bool) -> int:
    rng, good = random.Random(seed), 0
    unbroken: dict[tuple[str, int], tuple[Path, float]] = {}
    began = time.monotonic()
    kinds = itertools.cycle((method, processes) for processes in (1, 2) for method in METHODS)
    for number, (method, processes) in enumerate(itertools.islice(kinds, points)):
        point = draw(rng, method, processes)
        kind = (point.method, point.processes)
        if kind not in unbroken:
            unbroken[kind] = whole_run(point, base / f"unbroken_{point.method}_{point.processes}", fork)
        runs = base / f"point_{number}"
        told, wrong = survives(point, unbroken[kind], runs, fork)
        good += not wrong
        print(f"{number + 1:3d} {'; '.join(wrong) or 'identical'}: {told}", flush=True)
        if not wrong:
            shutil.rmtree(runs)
    print(
        f"{good} of {points} resumed runs identical to the unbroken run, {time.monotonic() - began:.0f} s, seed {seed}"
    )
    return 0 if good == points else 1


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--points", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, help="folder for the runs (default: a temporary one)")
    parser.add_argument("--fork", action="store_true", help="start ranks by fork, without torchrun: some times faster")
    options = parser.parse_args()
    if options.fork:
        torch.set_num_threads(1)
        import semiseg.training.fit  # noqa: F401  # what every run needs
    if options.keep:
        options.keep.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as temporary:
        sys.exit(main(options.points, options.seed, options.keep or Path(temporary), options.fork))
