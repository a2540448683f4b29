"""The walk-through on the page "Your own images" works, from labels of a tool to a model in another program."""

from __future__ import annotations

import importlib
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
CHANGED = ("model", "crop", "batch", "steps")
"""Lines about what `SMALL` sets: they are not printed then."""


@pytest.fixture
def walk():
    sys.path.insert(0, str(ROOT / "tools"))
    yield importlib.import_module("walk_through")
    sys.path.remove(str(ROOT / "tools"))


@pytest.mark.cli
def test_every_command_works_and_prints_what_the_page_shows(walk, tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(ROOT / "examples", tmp_path / "examples")
    found = walk.commands(PAGE.read_text())
    for command, shown in found:
        words = shlex.split(walk.in_run_folder(command, tmp_path))
        if words[0] == "semiseg":
            assert cli._dispatch([*words[1:], *(SMALL if words[1] == "start" else [])]) == 0, command
            printed = capsys.readouterr().out
        else:
            shell = command.replace("python ", f"{shlex.quote(sys.executable)} ")
            done = subprocess.run(shell, shell=True, capture_output=True, text=True, check=False)
            assert done.returncode == 0, f"{command}\n{done.stderr}"
            printed = done.stdout
        keys = {walk.key(line) for line in printed.splitlines()}
        missing = [line for line in shown if walk.key(line) not in keys and line.split()[0] not in CHANGED]
        assert not missing, f"{command} does not print {missing}; it prints\n{printed}"
    names = [command.split()[1] for command, _ in found if command.startswith("semiseg")]
    assert names == ["data", "start", "report", "predict", "next", "data", "start", "export"]


def test_outputs_on_a_page_are_replaced_by_new_ones(walk) -> None:
    page = "a\n```console\n$ one\ntime 3 s\n...\n$ two\nkept\n```\nb\n"
    assert walk.commands(page) == [("one", ["time 3 s"]), ("two", ["kept"])]
    new = walk.refreshed(page, ["first\ntime 45 s\n" + "x " * 100, "other\n"])
    assert new == page.replace("time 3 s", "time 45 s")


def test_run_folders_are_found_whatever_their_hash_is(walk, tmp_path: Path) -> None:
    folder = tmp_path / "runs/first/folder/all/unimatch/tiny/seed_0_12ab"
    folder.mkdir(parents=True)
    (folder / "result.json").touch()
    command = walk.in_run_folder("semiseg next run=runs/first/folder/... output=x", tmp_path)
    assert command == "semiseg next run=runs/first/folder/all/unimatch/tiny/seed_0_12ab output=x"
