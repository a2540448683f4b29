"""Random kills: a few in every run of the tests, fifty when asked for; see tests/kill_points.py."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[1] / "kill_points.py"


def kill_points(*arguments: str) -> None:
    done = subprocess.run([sys.executable, str(SCRIPT), *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.cli
@pytest.mark.ddp
def test_killed_runs_end_like_unbroken_ones() -> None:
    kill_points("--points", "4", "--seed", "8", "--fork")


@pytest.mark.slow
@pytest.mark.cli
@pytest.mark.ddp
def test_fifty_killed_runs_end_like_unbroken_ones() -> None:
    kill_points("--points", "50")
