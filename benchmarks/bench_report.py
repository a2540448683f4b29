"""Time and peak memory of ``semiseg report`` over many run folders, and over one very long metrics.csv.

Run: python benchmarks/bench_report.py [sizes=50,500] [lines=1000000]
Each case runs in a process of its own; the run folders are made up (tests/support/fake_runs.py).
"""

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
METHODS = ("supervised", "mean_teacher", "unimatch")
PARTITIONS = ("1_4", "1_8", "1_16", "1_32")


def make_runs(root: Path, count: int) -> None:
    """Runs of three methods on four partitions, as many models and seeds as it takes; some failed, some unfinished."""
    sys.path.insert(0, str(TOP / "tests"))
    from support.fake_runs import write_run

    for i in range(count):
        rest, method = divmod(i, len(METHODS))
        rest, partition = divmod(rest, len(PARTITIONS))
        model, seed = divmod(rest, 5)
        more = (
            {"unfinished": True}
            if i % 50 == 7
            else {"result": {"status": "failed", "error": "out of memory"}}
            if i % 50 == 3
            else {}
        )
        write_run(
            root, METHODS[method], seed, study=f"study_{model // 10}", partition=PARTITIONS[partition],
            model=f"model_{model}",
            n_logged=100, **more,
        )  # fmt: skip


def make_long_run(root: Path, lines: int) -> None:
    """One run whose metrics.csv has so many lines."""
    sys.path.insert(0, str(TOP / "tests"))
    from support.fake_runs import write_run

    folder = write_run(root, "unimatch", n_logged=2)
    noise = random.Random(0)
    names = [f"train/{name}" for name in ("loss", "loss_sup", "loss_unsup", "kept_ratio")]
    with (folder / "metrics.csv").open("w") as file:
        file.write(",".join(["step", *names, "lr/encoder", "val/miou"]) + "\n")
        for step in range(1, lines + 1):
            miou = f"{noise.random():.6f}" if step % 1000 == 0 else ""
            file.write(",".join([str(step), *(repr(noise.random()) for _ in range(5)), miou]) + "\n")


def measure(root: Path) -> dict[str, float]:
    """A report from nothing, one more with what was read before, and the size of the page; in a process of its own."""
    from semiseg.dashboard.read.cache import RunReader
    from semiseg.dashboard.report import write_report

    base = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    reader = RunReader()
    begin = time.perf_counter()
    report = write_report([root], root / "report.html", reader)
    first = time.perf_counter() - begin
    begin = time.perf_counter()
    write_report([root], root / "report.html", reader)
    return {
        "seconds_first": round(first, 2),
        "seconds_again": round(time.perf_counter() - begin, 2),
        "peak_memory_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1),
        "before_mb": round(base, 1),
        "page_mb": round(report.html.stat().st_size / 2**20, 2),
        "runs": len(report.runs),
    }


def main() -> None:
    given = dict(argument.split("=", 1) for argument in sys.argv[1:])
    sizes = [int(size) for size in given.get("sizes", "50,500").split(",") if size]
    lines = int(given.get("lines", 1_000_000))
    results = {}
    for name, make, size in [*((f"{n} runs", make_runs, n) for n in sizes), (f"{lines} lines", make_long_run, lines)]:
        if size == 0:
            continue
        with tempfile.TemporaryDirectory() as folder:
            make(Path(folder), size)
            command = [sys.executable, __file__, f"measure={folder}"]
            env = os.environ | {"PYTHONPATH": str(TOP / "src")}
            done = subprocess.run(command, capture_output=True, text=True, check=True, env=env)
        results[name] = json.loads(done.stdout.splitlines()[-1])
        print(name, results[name], flush=True)
    out = TOP / "benchmarks" / "results"
    out.mkdir(exist_ok=True)
    (out / "report.json").write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    if sys.argv[1:] and sys.argv[1].startswith("measure="):
        print(json.dumps(measure(Path(sys.argv[1].removeprefix("measure=")))))
    else:
        main()
