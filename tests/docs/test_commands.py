"""The commands that the documentation shows are valid, and those of daily use run."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from semiseg import cli
from semiseg.commands.train import expand
from semiseg.config.check import check_overrides
from support.tiny import tiny

ROOT = Path(__file__).parents[2]
PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    *sorted((ROOT / "docs").rglob("*.md")),
    *sorted((ROOT / "experiments").rglob("*.md")),
]


def lines(text: str) -> list[str]:
    """The commands of the ``sh`` blocks of a text, without comments."""
    blocks = re.findall(r"^```sh\n(.*?)^```", text, re.S | re.M)
    whole = [line.strip() for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    return [line.split("  #")[0].split(" # ")[0].strip() for line in whole if line and not line.startswith("#")]


def commands() -> list[tuple[str, str]]:
    return [(page.relative_to(ROOT).as_posix(), line) for page in PAGES for line in lines(page.read_text())]


@pytest.fixture(scope="module")
def help_of():
    """The help of a command, by its name."""
    texts: dict[str, str] = {}

    def read(*command: str) -> str:
        name = " ".join(command)
        if name not in texts:
            done = subprocess.run(
                [sys.executable, "-m", "semiseg", *command, "--help"], capture_output=True, text=True, check=True
            )
            texts[name] = done.stdout
        return texts[name]

    return read


def test_there_are_commands_on_the_pages() -> None:
    assert len({page for page, _ in commands()}) > 8


@pytest.mark.parametrize("page,line", commands(), ids=lambda v: v[:60])
def test_documented_commands_are_valid(page: str, line: str, help_of) -> None:
    program, command, *arguments = shlex.split(line)
    assert program in ("semiseg", "make"), f"{page}: only our own commands stand in sh blocks"
    if program == "make":
        assert re.search(rf"^{command}:.*##", (ROOT / "Makefile").read_text(), re.M)
        return
    assert re.search(rf"^ +{command} ", cli.USAGE, re.M)
    words = expand(arguments) if command == "train" else arguments
    # An earlier model is the reader's own.
    given = [a for a in words if not a.startswith(("-", "plan=", "hydra.sweeper.plan=", "init=", "dry_run="))]
    if command == "train":
        check_overrides(given, multirun="-m" in words)
        return
    told = help_of(command, arguments[0]) if command == "data" else help_of(command)
    assert all(flag in told for flag in arguments if flag.startswith("--"))
    overrides = [a for a in given if "=" in a and f"{a.partition('=')[0]}=" not in told]
    if overrides:  # keys of a run: they need its data set to be known
        check_overrides([*overrides, *(a for a in given if a.startswith("data=") and a not in overrides)])


SMALL = tiny("data.n_val=4", "val_every=1", "trainer=", "model.width=8")
FEWER = {  # what else is cut, so that a sweep is a job or two
    "method=supervised,mean_teacher,unimatch": ["method=supervised,unimatch", "seed=0"],
    "sweep=methods": ["method=supervised", "seed=0"],
    "sweep=lr": ["hydra.sweeper.n_trials=1"],
    "plan=true": ["method=supervised", "seed=0"],
    "--watch": ["every=0.2", "quiet=1"],
}
ELSEWHERE = (  # tests/cli/test_ddp.py, tests/sweep/test_ray.py and test_coordinators.py; a cluster
    "trainer=ddp",
    "hydra/launcher=ray",
    "postgresql+psycopg",
    "hydra/launcher=slurm hydra.launcher.partition",
)


@pytest.mark.cli
@pytest.mark.parametrize("page", ["sweeps", pytest.param("clusters", marks=pytest.mark.slow), "resume", "report"])
def test_commands_of_daily_use_run(page: str, call, forked_jobs) -> None:
    found = [
        line for line in lines((ROOT / "docs" / f"{page}.md").read_text()) if not any(e in line for e in ELSEWHERE)
    ]
    assert found
    for line in sorted(found, key=lambda line: "semiseg report" in line):  # reports need runs
        arguments = ["runs" if a == "runs/mine" and page == "report" else a for a in shlex.split(line)[1:]]
        cut = [c for shown, shorter in FEWER.items() if shown in line for c in shorter]
        cut += SMALL if arguments[0] == "train" else []
        keys = {c.partition("=")[0] for c in cut}
        kept = [a for a in arguments if a.partition("=")[0] not in keys]
        code, _, told = call(*kept, *cut)
        assert code == 0, f"{line}\n{told[-2000:]}"
