"""How long ``semiseg report`` takes, and how much memory, over one very long metrics.csv."""

from __future__ import annotations

import json
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

TOP = Path(__file__).resolve().parents[1]
LINES = 1_000_000
MEMORY_GOAL = 300.0  # MB

sys.path.insert(0, str(TOP / "tests"))


def measure(*, quick: bool) -> list:
    """A made-up run, its report in a process of its own; memory is that of the whole process."""
    from table import Row

    rows = []
    lines = 1000 if quick else LINES
    found = _in_process(lambda root: make_long_run(root, lines))
    detail = f"{found['memory_mb']:.0f} MB, {found['before_mb']:.0f} MB of it before"
    rows.append(Row(f"report over {lines:,} lines of metrics", found["first"], "one run", None, "s", detail))
    share = found["memory_mb"] / MEMORY_GOAL
    rows.append(Row(f"memory for {lines:,} lines", share, f"{MEMORY_GOAL:.0f} MB", 1.0, "x", detail))
    return rows


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


def _in_process(make) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as folder:
        make(Path(folder))
        env = os.environ | {"PYTHONPATH": str(TOP / "src")}
        command = [sys.executable, __file__, folder]
        done = subprocess.run(command, capture_output=True, text=True, check=True, env=env)
    return json.loads(done.stdout.splitlines()[-1])


def _report_twice(root: Path) -> dict[str, float]:
    from semiseg.dashboard.read.cache import RunReader
    from semiseg.dashboard.report import write_report

    def peak() -> float:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

    before, reader, seconds = peak(), RunReader(), []
    for _ in range(2):
        begin = time.perf_counter()
        report = write_report([root], root / "report.html", reader)
        seconds.append(time.perf_counter() - begin)
    page = report.html.stat().st_size / 2**20
    found = {"first": seconds[0], "again": seconds[1], "memory_mb": peak(), "before_mb": before, "page_mb": page}
    return {key: round(value, 2) for key, value in found.items()}


if __name__ == "__main__":
    print(json.dumps(_report_twice(Path(sys.argv[1]))))
