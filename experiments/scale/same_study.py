"""The same 24-run study through each engine, each with one SIGKILL in the middle.

    python experiments/scale/same_study.py FOLDER [engine ...]

Engines: serial, pool, slurm_local, ray, workers. Prints a Markdown table; all are compared with the first engine.
An engine with results in the folder is not run again. Needs Linux (/proc), and Ray and submitit for their engines.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import torch

from semiseg.runs.checkpoint import load_checkpoint
from semiseg.runs.result import read_result

STUDY = [
    "method=supervised,mean_teacher,unimatch", "protocol=shapes/1_64,shapes/1_32,shapes/1_16,shapes/1_8", "seed=0,1",
    "data.size=[48,48]", "data.n_train=64", "data.n_val=4", "crop_size=[32,32]", "batch.labeled=2", "batch.unlabeled=2",
    "max_steps=6", "val_every=3", "trainer=debug", "trainer.save_every=1", "loader.num_workers=0", "model.width=8",
    "diagnostics.panels=0", "study=same",
]  # fmt: skip
RUNS = 24
ENGINES = {
    "serial": [],
    "pool": ["hydra/launcher=pool", "hydra.launcher.n_jobs=2"],
    "slurm_local": ["hydra/launcher=slurm_local"],
    "ray": ["hydra/launcher=ray", "hydra.launcher.n_jobs=2"],
    "workers": [],
}


def start(folder: Path, *words: str) -> subprocess.Popen:
    """Start a command in the folder of its engine."""
    command = [sys.executable, "-m", "semiseg", *words]
    log = (folder / "log.txt").open("a")
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, cwd=folder, env=environment, stderr=log, stdout=log, start_new_session=True)


def processes() -> dict[int, tuple[int, str]]:
    """Parent and command line by process id."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((folder / "stat").read_text().rsplit(")", 1)[1].split()[1])
            found[int(folder.name)] = (parent, (folder / "cmdline").read_text().replace("\0", " "))
        except OSError:
            continue
    return found


def job_in(folder: Path) -> int | None:
    """A process that trains a run of this folder and has a checkpoint."""
    for pid, (_, line) in processes().items():
        place = line.partition("hydra.run.dir='")[2].partition("'")[0]
        if place.startswith(str(folder)) and (Path(place) / "checkpoints/last.ckpt").exists():
            return pid
    return None


def completed(folder: Path) -> list[Path]:
    """The folders of complete runs."""
    found = [p.parent for p in folder.glob("runs/same/*/*/*/*/*/result.json")]
    return sorted(f for f in found if (read_result(f) or {}).get("status") == "completed")


def kill_one(engine: str, folder: Path, started: list[subprocess.Popen]) -> str:
    """Once a quarter of the runs are complete, send SIGKILL to a process that runs a job."""
    while len(completed(folder)) < RUNS // 4 or (job := job_in(folder)) is None:
        assert any(p.poll() is None for p in started), (folder / "log.txt").read_text()[-2000:]
        time.sleep(0.02)
    if engine in ("ray", "workers"):
        parent = processes().get(job, (0, ""))[0]
        os.kill(parent, signal.SIGKILL)
        return "the parent process of a run"
    os.kill(job, signal.SIGKILL)
    return "a run"


def go(engine: str, folder: Path) -> tuple[str, int, float]:
    """What was killed, how many runs were complete at that time, total seconds."""
    begun = time.monotonic()
    folder.mkdir(parents=True)
    sweep = ["train", "-m", *STUDY, *ENGINES[engine]]
    if engine == "workers":
        assert start(folder, *sweep, "plan=true").wait() == 0
        started = [start(folder, "worker", "runs/same", "lease=10") for _ in range(2)]
    else:
        started = [start(folder, *sweep)]
    killed = kill_one(engine, folder, started)
    before = len(completed(folder))
    for process in started:
        process.wait()
    if len(completed(folder)) < RUNS:
        start(folder, *sweep, "hydra.sweeper.retry_failed=true").wait()
    return killed, before, time.monotonic() - begun


def equal(a: Path, b: Path) -> bool:
    """Whether metrics and weights are bit-identical."""
    first, second = read_result(a), read_result(b)
    if first["miou"] != second["miou"] or first["iou_per_class"] != second["iou_per_class"]:
        return False
    one, two = (load_checkpoint(f / "checkpoints/last.ckpt")["state_dict"] for f in (a, b))
    return one.keys() == two.keys() and all(torch.equal(one[k], two[k]) for k in one)


def main(root: Path, engines: list[str]) -> None:
    """Run the missing engines, and print the table."""
    print("| engine | killed | complete at the kill | runs complete | equal to the first engine | seconds |")
    print("|---|---|---:|---:|---:|---:|", flush=True)
    for engine in engines:
        folder = root / engine
        if not (folder / "row.json").exists():
            killed, before, seconds = go(engine, folder)
            (folder / "row.json").write_text(json.dumps([killed, before, seconds]))
        killed, before, seconds = json.loads((folder / "row.json").read_text())
        names = [run.relative_to(folder) for run in completed(folder)]
        same = sum(equal(root / engines[0] / name, folder / name) for name in names)
        row = f"| {engine} | {killed} | {before} | {len(names)} | {same} of {RUNS} | {seconds:.0f} |"
        print(row, flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]).absolute(), sys.argv[2:] or list(ENGINES))
