"""The commands that the documentation shows are valid."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from semiseg import cli
from semiseg.config.check import check_overrides

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
