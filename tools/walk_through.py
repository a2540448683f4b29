"""Runs the walk-through on the page "Your own images" and brings the outputs that the page shows up to date.

    python tools/walk_through.py        # about half an hour on two idle cores

The page decides which lines it shows: each is replaced by the line that the command prints now and that begins with the
same words. ``tests/docs/test_own_images.py`` runs the same commands with a tiny network.
"""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs/own-images.md"
WIDTH = 110
"""Longer lines are cut on the page."""

BLOCK = re.compile(r"^```console\n(.*?)^```", re.S | re.M)


def commands(text: str) -> list[tuple[str, list[str]]]:
    """The commands of the ``console`` blocks of a page, each with the lines shown below it."""
    found: list[tuple[str, list[str]]] = []
    for block in BLOCK.findall(text):
        for line in block.splitlines():
            if line.startswith("$ "):
                found.append((line[2:], []))
            elif line.strip() != "...":
                found[-1][1].append(line)
    return found


def key(line: str) -> str:
    """The first words of a line, without numbers, which differ from machine to machine."""
    return " ".join(re.sub(r"[\d.,:±-]+", "#", line).split()[:2])


def in_run_folder(command: str, here: Path) -> str:
    """The command with ``runs/STUDY/...`` replaced by the run folder that is there."""

    def there(match: re.Match[str]) -> str:
        (folder,) = (path.parent for path in here.glob(f"runs/{match[1]}/*/*/*/*/*/result.json"))
        return str(folder.relative_to(here))

    return re.sub(r"\bruns/(\w+)/[\w/]*\.\.\.", there, command)


def refreshed(text: str, printed: list[str]) -> str:
    """The page with its lines of output replaced by those that each command has printed, in order."""
    outputs = iter(printed)
    told: dict[str, str] = {}

    def block(match: re.Match[str]) -> str:
        nonlocal told
        lines = []
        for line in match[1].splitlines():
            if line.startswith("$ "):
                told = {}
                for new in next(outputs).splitlines():
                    told.setdefault(key(new), new if len(new) <= WIDTH else f"{new[:WIDTH].rsplit(' ', 1)[0]} ...")
                lines.append(line)
            else:
                lines.append(line if line.strip() == "..." else told.get(key(line), line))
        return "```console\n" + "".join(f"{line}\n" for line in lines) + "```"

    return BLOCK.sub(block, text)


def main() -> None:
    """Run every command in a new folder, then rewrite the page."""
    text, printed = PAGE.read_text(), []
    with tempfile.TemporaryDirectory(prefix="semiseg_walk_") as place:
        here = Path(place)
        shutil.copytree(ROOT / "examples", here / "examples")
        for command, _ in commands(text):
            command = in_run_folder(command, here)
            print(f"$ {command}", flush=True)
            python = shlex.quote(sys.executable)
            command = re.sub(r"(^|&& )python ", rf"\g<1>{python} ", command)
            command = re.sub(r"^semiseg", f"{python} -m semiseg", command)
            done = subprocess.run(command, shell=True, cwd=here, stdout=subprocess.PIPE, text=True, check=True)
            print(done.stdout, flush=True)
            printed.append(done.stdout)
    PAGE.write_text(refreshed(text, printed))


if __name__ == "__main__":
    main()
