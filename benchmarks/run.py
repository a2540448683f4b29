"""Run the benchmarks and print one table; all figures are ratios within one run, comparable between machines.

python benchmarks/run.py [NAME ...] [--quick] [--out DIR]
"""

from __future__ import annotations

import argparse
import importlib
import os
import resource
import sys
from collections.abc import Sequence
from pathlib import Path

# Before numpy and torch load: one core makes ratios steady, and every cost visible.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["HF_HUB_OFFLINE"] = "1"

from table import Row, markdown, write_json

HERE = Path(__file__).resolve().parent
NAMES = sorted(path.stem.removeprefix("bench_") for path in HERE.glob("bench_*.py"))


def main(argv: Sequence[str] | None = None) -> list[Row]:
    """Run the benchmarks that are named, or all; write one JSON file for each."""
    parser = argparse.ArgumentParser(description="Benchmarks of semiseg, as ratios within one run.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"any of {', '.join(NAMES)}; all by default")
    parser.add_argument("--quick", action="store_true", help="only show that they run; the numbers mean nothing")
    parser.add_argument("--out", type=Path, default=HERE / "results", help="folder of the JSON files")
    args = parser.parse_args(argv)
    for name in args.names:
        if name not in NAMES:
            parser.error(f"unknown benchmark '{name}': choose from {', '.join(NAMES)}")
    rows: list[Row] = []
    for name in args.names or NAMES:
        start = cpu_seconds()
        measured = importlib.import_module(f"bench_{name}").measure(quick=args.quick)
        print(f"measured {name} in {cpu_seconds() - start:.0f} s of CPU time", file=sys.stderr, flush=True)
        write_json(args.out / f"{name}.json", measured)
        rows += measured
    print(f"measured all in {cpu_seconds():.0f} s of CPU time", file=sys.stderr, flush=True)
    print(markdown(rows))
    return rows


def cpu_seconds() -> float:
    """Of this process and of those it has waited for."""
    spent = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(s.ru_utime + s.ru_stime for s in spent)


if __name__ == "__main__":
    main()
