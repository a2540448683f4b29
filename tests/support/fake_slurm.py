"""sbatch, srun, squeue, sacct, scontrol and scancel of a cluster that is this machine.

A copy of this file under each of these names, first in PATH, is the cluster; its folder is the state: ``jobs.jsonl``
has the directives of each script, ``tasks/<id>`` the state and process id of each task, ``most`` the longest queue.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(os.environ.get("FAKE_SLURM", Path(sys.argv[0]).parent))
TASKS = HERE / "tasks"
PROGRAMS = ("sbatch", "srun", "squeue", "sacct", "scontrol", "scancel")


class Quick:
    """Stands for a run: one of them is killed."""

    def __init__(self, job, cwd: str) -> None:
        self.label = job.label

    def __call__(self) -> tuple[str, float, None]:
        time.sleep(0.5)
        if self.label == "seed=1":
            os._exit(3)
        return "completed", 0.5, None


def install(folder: Path) -> dict[str, str]:
    """Make the programs; returns the environment in which they are found."""
    (folder / "tasks").mkdir(parents=True)
    for name in PROGRAMS:
        path = folder / name
        path.write_text(f"#!{sys.executable}\n" + Path(__file__).read_text())
        path.chmod(0o755)
    return {"PATH": f"{folder}{os.pathsep}{os.environ['PATH']}", "FAKE_SLURM": str(folder)}


def running() -> list[str]:
    return [p.name for p in sorted(TASKS.iterdir()) if p.read_text().split()[0] == "RUNNING"]


def start(name: str) -> None:
    """Run a task's script in the background; its state is noted when it ends."""
    (TASKS / name).write_text("RUNNING 0")
    # Not the pipe that submitit reads the answer of sbatch from.
    streams = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    facts = {**os.environ, "FAKE_AS": "task"}
    subprocess.Popen([sys.executable, sys.argv[0], "--task", name], start_new_session=True, env=facts, **streams)


def sbatch(script: str) -> None:
    text = Path(script).read_text()
    directives = dict(re.findall(r"^#SBATCH --([\w-]+)=?(.*)$", text, re.MULTILINE))
    number = 100 + len(list(HERE.glob("*.sh")))
    shutil.copy(script, HERE / f"{number}.sh")
    with (HERE / "jobs.jsonl").open("a") as f:
        f.write(json.dumps({"id": number, "script": text, **directives}) + "\n")
    last = int(re.match(r"0-(\d+)", directives["array"])[1]) if "array" in directives else None
    for name in [str(number)] if last is None else [f"{number}_{i}" for i in range(last + 1)]:
        start(name)
    most = HERE / "most"
    most.write_text(str(max(int(most.read_text()) if most.exists() else 0, len(running()))))
    print(f"Submitted batch job {number}")


def task(name: str) -> None:
    number, _, index = name.partition("_")
    facts = {"SLURM_JOB_ID": number, "SLURM_NTASKS": "1", "SLURM_JOB_NUM_NODES": "1", "SLURM_NODEID": "0"}
    facts |= {"SLURM_PROCID": "0", "SLURM_LOCALID": "0", "SLURM_JOB_NODELIST": "localhost"}
    if index:
        facts |= {"SLURM_ARRAY_JOB_ID": number, "SLURM_ARRAY_TASK_ID": index}
    with (HERE / f"{name}.out").open("a") as out:
        script, facts = str(HERE / f"{number}.sh"), {**os.environ, **facts, "FAKE_AS": ""}
        process = subprocess.Popen(["bash", script], env=facts, stdout=out, stderr=out)
        (TASKS / name).write_text(f"RUNNING {process.pid}")
        code = process.wait()
    if (HERE / f"{name}.requeue").exists():
        (HERE / f"{name}.requeue").unlink()
        start(name)
    else:
        (TASKS / name).write_text(f"{'COMPLETED' if code == 0 else 'FAILED'} 0")


def main(program: str, arguments: list[str]) -> None:
    if program == "task":
        task(arguments[1])
    elif program == "sbatch":
        sbatch(arguments[-1])
    elif program == "srun":
        words = list(arguments)
        while words and words[0].startswith("--"):
            words = words[2:] if words[0] in ("--output", "--error") else words[1:]
        os.execvp(words[0], words)
    elif program == "squeue":
        print("\n".join(running()))
    elif program == "sacct":
        print("JobID|State|NodeList")
        for path in sorted(TASKS.iterdir()):
            print(f"{path.name}|{path.read_text().split()[0]}|localhost")
    elif program == "scontrol" and arguments[0] == "requeue":
        (HERE / f"{arguments[1]}.requeue").touch()
    elif program == "scancel":
        for name in [n for n in running() if n.split("_")[0] == arguments[0] or n == arguments[0]]:
            os.kill(int((TASKS / name).read_text().split()[1]), signal.SIGTERM)


if __name__ == "__main__":
    main(os.environ.get("FAKE_AS") or Path(sys.argv[0]).name, sys.argv[1:])
