"""How long the command line takes to answer."""

from __future__ import annotations

import subprocess
import sys
from functools import partial

from table import Row
from timing import best_of

COMMANDS = {
    "python": ["-c", "pass"],
    "semiseg --help": ["-m", "semiseg", "--help"],
    "semiseg train --help": ["-m", "semiseg", "train", "--help"],
}


def measure(*, quick: bool) -> list[Row]:
    """Whole processes, started and ended; best of five."""
    works = {
        name: partial(subprocess.run, [sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL)
        for name, arguments in COMMANDS.items()
    }
    best = best_of(works, 1 if quick else 5)
    bare = best.pop("python")
    return [
        Row(
            name,
            seconds,
            f"python -c pass ({bare:.2f} s)",
            goal=1.0,
            unit="s",
            detail=f"{seconds / bare:.0f} x bare",
        )
        for name, seconds in best.items()
    ]
