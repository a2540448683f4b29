"""The commands that the documentation shows are valid."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from semiseg import cli
from semiseg.config.check import check_overrides
from support.tiny import tiny

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "experiments").rglob("*.md"))]


def commands() -> list[tuple[str, str]]:
    found = []
    for page in PAGES:
        for block in re.findall(r"```sh\n(.*?)```", page.read_text(), re.S):
            for line in block.replace("\\\n", " ").splitlines():
                if line.strip().startswith(("semiseg ", "make ")):
                    found.append((page.relative_to(ROOT).as_posix(), line.split("  #")[0].split("   ")[0].strip()))
    return found


@pytest.mark.parametrize("page,line", commands(), ids=lambda v: v[:60])
def test_documented_commands_are_valid(page: str, line: str) -> None:
    program, command, *arguments = shlex.split(line)
    if program == "make":
        assert re.search(rf"^{command}:.*##", (ROOT / "Makefile").read_text(), re.M)
        return
    assert command in cli.USAGE
    if command == "train":
        check_overrides([a for a in arguments if not a.startswith("-")])


SMALL = tiny("data.n_val=4", "val_every=1", "trainer=", "model.width=8")
FEWER = {  # what else is cut, so that a sweep is a job or two
    "method=supervised,mean_teacher,unimatch": ["method=supervised,unimatch", "seed=0"],
    "sweep=methods": ["method=supervised", "seed=0"],
    "sweep=lr": ["hydra.sweeper.n_trials=1"],
    "--watch": ["every=0.2", "quiet=1"],
}
ELSEWHERE = ("trainer=ddp", "hydra/launcher=slurm hydra.launcher.partition")  # tests/cli/test_ddp.py; needs a cluster


@pytest.mark.cli
@pytest.mark.parametrize("section", ["Sweeps", "Many GPUs and clusters", "Resume", "Dashboards"])
def test_commands_of_daily_use_run(section: str, tmp_path: Path) -> None:
    text = (ROOT / "README.md").read_text().partition(f"## {section}\n")[2].partition("\n## ")[0]
    (block,) = re.findall(r"```sh\n(.*?)```", text, re.S)
    lines = [line.split("  #")[0].strip() for line in block.splitlines() if not any(e in line for e in ELSEWHERE)]
    assert lines
    for line in sorted(lines, key=lambda line: "semiseg report" in line):  # reports need runs
        arguments = ["runs" if a == "runs/mine" and section == "Dashboards" else a for a in shlex.split(line)[1:]]
        cut = [c for shown, shorter in FEWER.items() if shown in line for c in shorter]
        cut += SMALL if arguments[0] == "train" else []
        keys = {c.partition("=")[0] for c in cut}
        kept = [a for a in arguments if a.partition("=")[0] not in keys]
        done = subprocess.run(
            [sys.executable, "-m", "semiseg", *kept, *cut], cwd=tmp_path, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"{line}\n{done.stderr[-2000:]}"
