"""The walk-through on the page "Your own images" works, from labels of a tool to a model in another program."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from semiseg import cli

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs/own-images.md"
SMALL = [
    "model=tiny", "model.width=4", "crop_size=32", "batch.labeled=2", "batch.unlabeled=2", "max_steps=2", "val_every=2",
    "loader.num_workers=0", "diagnostics.panels=0",
]  # fmt: skip


def walk() -> list[tuple[str, list[str]]]:
    """The commands of the page's ``console`` blocks, each with the lines that it prints there."""
    found: list[tuple[str, list[str]]] = []
    for block in re.findall(r"^```console\n(.*?)^```", PAGE.read_text(), re.S | re.M):
        for line in block.replace("\\\n", " ").splitlines():
            if line.startswith("$ "):
                found.append((line[2:], []))
            elif line.strip() not in ("", "..."):
                found[-1][1].append(line)
    return found


def run_folders(command: str, here: Path) -> str:
    """The command with the run folders that are there, whatever hash their names end in."""

    def there(match: re.Match[str]) -> str:
        (folder,) = (p.parent for p in here.glob(f"runs/{match[1]}/*/*/*/*/*/result.json"))
        return str(folder.relative_to(here))

    return re.sub(r"\bruns/(\w+)/[\w./]+", there, command)


def words(line: str) -> str:
    """The first words of a line, without what differs from machine to machine."""
    return " ".join(re.sub(r"[\d.,:±-]+", "#", line).split()[:2])


@pytest.mark.cli
def test_the_walk_of_the_page_works(tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "examples").mkdir()
    shutil.copy(ROOT / "examples/own_images.py", tmp_path / "examples")
    done = walk()
    for command, shown in done:
        command = run_folders(command, tmp_path)
        program, *arguments = shlex.split(command)
        if program == "semiseg":
            small = SMALL if arguments[0] in ("start", "train") else []
            code = cli._dispatch([*arguments, *small])
            told = capsys.readouterr().out
        else:  # the person's own commands
            command = command.replace("python ", f"{sys.executable} ")
            ran = subprocess.run(command, shell=True, capture_output=True, text=True, check=False)
            code, told = ran.returncode, ran.stdout + ran.stderr
        assert code == 0, f"{command}\n{told}"
        printed = {words(line) for line in told.splitlines()}
        gone = [line for line in shown if words(line) not in printed and not _of_the_size(line)]
        assert not gone, f"{command} does not print {gone} but {sorted(printed)}"
    for step in ("data import", "start", "report", "predict", "export"):
        assert any(command.startswith(f"semiseg {step}") for command, _ in done), step


def _of_the_size(line: str) -> bool:
    """Lines about what the test makes small: the choices that it takes over itself."""
    return line.split()[0] in ("model", "crop", "batch", "steps", "runs:", "next:")
