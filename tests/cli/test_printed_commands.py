"""Commands that are printed or started for the user work as they are, and leave nothing behind."""

from __future__ import annotations

import json
import shlex
import subprocess
import tempfile
from pathlib import Path

import pytest

from semiseg.commands import data
from semiseg.config import compose_config
from semiseg.config.check import check_overrides
from semiseg.errors import RunFailed
from semiseg.training.fit import train
from semiseg.training.launch import run_distributed
from support.hostile import folder_data_set
from support.tiny import tiny

FOLDERS = ["données", "a=b", "run (1)", "it's", "x,y", "a b"]


@pytest.mark.parametrize("name", FOLDERS)
def test_the_next_command_reads_the_folder_that_was_checked(name: str, tmp_path: Path, capsys) -> None:
    root = folder_data_set(tmp_path / name)
    assert data.main(["check", "data=folder", "protocol=folder/all", f"data.root={root}"]) == 0
    line = next(text for text in capsys.readouterr().out.splitlines() if text.startswith("next: "))
    assert shlex.split(line.removeprefix("next: ")) == ["semiseg", "start", str(root), "protocol=folder/all"]


@pytest.mark.parametrize("name", FOLDERS)
def test_the_training_command_reads_the_folder_that_was_checked(name: str, tmp_path: Path, capsys) -> None:
    root = folder_data_set(tmp_path / name)
    assert data.main(["check", "data=folder", "protocol=folder/all", f"data.root={root}", "method=cps"]) == 0
    line = next(text for text in capsys.readouterr().out.splitlines() if text.startswith("next: "))
    program, command, *overrides = shlex.split(line.removeprefix("next: "))
    assert (program, command) == ("semiseg", "train")
    check_overrides(overrides)
    assert compose_config(overrides).data.root == str(root)


def test_torchrun_keeps_its_files_in_a_folder_that_goes(tmp_path: Path, monkeypatch) -> None:
    seen: list[Path] = []

    class Ended:
        def __init__(self, command: list[str], **_: object) -> None:
            (place,) = [word.removeprefix("--log_dir=") for word in command if word.startswith("--log_dir=")]
            seen.append(Path(place))
            seen[0].mkdir()

        def wait(self) -> int:
            return 1

        def send_signal(self, number: int) -> None: ...

    monkeypatch.setattr(subprocess, "Popen", Ended)
    with pytest.raises(RunFailed):
        run_distributed(2, 1, tmp_path, [])
    assert seen[0].is_relative_to(tempfile.gettempdir()) and not seen[0].parent.exists()


def test_the_precision_that_ran_is_recorded(tmp_path: Path) -> None:
    train(compose_config(tiny("method=supervised", "trainer.accelerator=cpu", "trainer.precision=16-mixed")), tmp_path)
    assert json.loads((tmp_path / "result.json").read_text())["precision"] == "bf16-mixed"
