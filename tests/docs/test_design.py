"""The file tree of the design page is the real one."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "design.md"


def tree() -> list[str]:
    """The paths of the annotated tree, folders with a slash at the end."""
    (block,) = re.findall(r'^```text title="tree"\n(.*?)^```', PAGE.read_text(), re.S | re.M)
    paths: list[str] = []
    above: list[str] = []
    for line in block.splitlines():
        indent, name = re.match(r"( *)(\S+)", line).groups()
        above = [*above[: len(indent) // 2], name]
        paths.append("".join(above))
    return paths


def tracked() -> set[str]:
    """Files of the project: those that git knows, or all of an unpacked archive."""
    done = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        pytest.skip("not a checkout")
    return {name for name in done.stdout.splitlines() if (ROOT / name).exists()}


def test_what_the_tree_shows_is_there() -> None:
    for path in tree():
        assert (ROOT / path).is_dir() if path.endswith("/") else (ROOT / path).is_file(), path


def test_every_room_and_every_group_is_in_the_tree() -> None:
    shown = set(tree())
    folders = {f"{parent.as_posix()}/" for name in tracked() for parent in Path(name).parents}
    rooms = {f for f in folders if f.startswith("src/semiseg/") and f.count("/") <= 4}
    groups = {f for f in folders if f.startswith("conf/") and f.count("/") == 2}
    top = {name for name in tracked() if re.fullmatch(r"src/semiseg/\w+\.py", name)}
    missing = sorted((rooms | groups | top) - shown)
    assert not missing, f"docs/design.md does not show {', '.join(missing)}: add a line to its tree"


def test_every_line_of_the_tree_says_what_it_is() -> None:
    (block,) = re.findall(r'^```text title="tree"\n(.*?)^```', PAGE.read_text(), re.S | re.M)
    assert all(len(line.split()) > 1 or line.strip() in ("src/", "semiseg/") for line in block.splitlines())
