"""How long ``semiseg report`` takes, and how much memory, over one very long metrics.csv."""

from __future__ import annotations

import random
import sys
import tempfile
from pathlib import Path

TOP = Path(__file__).resolve().parents[1]
LINES = 1_000_000
MEMORY_GOAL = 300.0  # MB

sys.path.insert(0, str(TOP / "tests"))


def measure(*, quick: bool) -> list:
    """A made-up run, and the command in a process of its own: its processor time and its peak memory."""
    from bench_scale import run
    from table import Row

    lines = 1000 if quick else LINES
    with tempfile.TemporaryDirectory() as folder:
        make_long_run(Path(folder, "runs"), lines)
        cost = run("report", "runs", cwd=folder)
    detail, goal = f"{cost.memory:.0f} MB", f"{MEMORY_GOAL:.0f} MB"
    return [
        Row(f"report over {lines:,} lines of metrics", cost.seconds, "start-up included", None, "s", detail),
        Row(f"memory for {lines:,} lines", cost.memory / MEMORY_GOAL, goal, 1.0, "x", detail),
    ]


def make_long_run(root: Path, lines: int) -> None:
    """One run whose metrics.csv has so many lines."""
    from support.fake_runs import write_run

    folder = write_run(root, "unimatch", n_logged=2)
    noise = random.Random(0)
    names = [f"train/{name}" for name in ("loss", "loss_sup", "loss_unsup", "kept_ratio")]
    with (folder / "metrics.csv").open("w") as file:
        file.write(",".join(["step", *names, "lr/encoder", "val/miou"]) + "\n")
        for step in range(1, lines + 1):
            miou = f"{noise.random():.6f}" if step % 1000 == 0 else ""
            file.write(",".join([str(step), *(repr(noise.random()) for _ in range(5)), miou]) + "\n")
