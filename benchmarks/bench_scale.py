"""Processor time and memory of ``semiseg report`` and of ``plan=true`` over 50, 500 and 5,000 run folders.

    python benchmarks/run.py scale --out experiments/scale
    python benchmarks/bench_scale.py experiments/scale/scale.json docs/assets/scale.svg      # the curve

The commands are real ones, each in a process of its own; the run folders are made up. Processor time (user and system)
is counted, not wall time: it hardly depends on what else the machine does. Start-up, some 2 s, is part of it.
"""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

TOP = Path(__file__).resolve().parents[1]
COUNTS = (50, 500, 5000)
METHODS = ("supervised", "mean_teacher", "unimatch")
PARTITIONS = ("1_4", "1_8", "1_16", "1_32")
GRID = {"method": ("supervised", "unimatch"), "protocol": ("1_64", "1_32", "1_16", "1_8")}
GOALS = {50: 5.0, 500: 15.0, 5000: 90.0}  # seconds

sys.path.insert(0, str(TOP / "tests"))


@dataclass(frozen=True)
class Cost:
    """Of a process that has ended. ``seconds``: of the processor, user and system; ``memory``: peak in MB."""

    seconds: float
    memory: float


def measure(*, quick: bool) -> list:
    """Both commands for each number of run folders; the report with and without its index."""
    from table import Row

    rows = []
    for count in (10,) if quick else COUNTS:
        for name, cost in _costs(count):
            goal = None if quick else GOALS[count]
            memory = f"{cost.memory:.0f} MB"
            rows.append(Row(f"{name}, {count:,} runs", cost.seconds, "start-up included", goal, "s", memory))
    return rows


def _costs(count: int) -> Iterator[tuple[str, Cost]]:
    """Name of a command, and its cost."""
    with tempfile.TemporaryDirectory() as folder:
        make_runs(Path(folder, "runs"), count)
        for name in ("report", "report again"):
            yield name, run("report", "runs", cwd=folder)
    with tempfile.TemporaryDirectory() as folder:
        jobs = make_study(Path(folder, "runs"), count)
        yield "plan", run("train", "-m", *jobs, "plan=true", cwd=folder)


COMMAND = """
import atexit, runpy

def note():
    (line,) = (line for line in open("/proc/self/status") if line.startswith("VmHWM"))
    open("memory.txt", "w").write(line.split()[1])

atexit.register(note)
runpy.run_module("semiseg", run_name="__main__", alter_sys=True)
"""
"""A semiseg command that notes its peak memory. What the system tells a parent includes the parent's own memory."""


def run(*words: str, cwd: str) -> Cost:
    """The cost of a semiseg command."""
    environment = os.environ | {"PYTHONPATH": str(TOP / "src")}
    with Path(cwd, "log.txt").open("w") as log:
        command = [sys.executable, "-c", COMMAND, *words]
        process = subprocess.Popen(command, cwd=cwd, env=environment, stdout=log, stderr=log)
        _, status, used = os.wait4(process.pid, 0)
    if status:
        raise RuntimeError(Path(cwd, "log.txt").read_text()[-2000:])
    return Cost(used.ru_utime + used.ru_stime, int(Path(cwd, "memory.txt").read_text()) / 1024)


def make_runs(root: Path, count: int) -> None:
    """Three methods on four partitions, as many models as it takes, five seeds; some failed, some unfinished."""
    from semiseg.config import compose_config
    from semiseg.config.stored import config_yaml, plain
    from support.fake_runs import write_run

    config = config_yaml(plain(compose_config(["data=shapes", "method=unimatch"])))
    written: dict[tuple[str, int], dict[str, str]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for method in METHODS:
            for seed in range(5):
                text = config.replace("\nseed: 0\n", f"\nseed: {seed}\n")
                run = write_run(Path(folder), method, seed, partition="PART", model="MODEL", n_logged=100, config=text)
                written[method, seed] = {path.name: path.read_text() for path in run.iterdir()}
    for i in range(count):
        rest, method_number = divmod(i, len(METHODS))
        rest, partition = divmod(rest, len(PARTITIONS))
        model, seed = divmod(rest, 5)
        method = METHODS[method_number]
        place = root / f"study_{model // 10}/shapes/{PARTITIONS[partition]}/{method}/model_{model}/seed_{seed}"
        place.mkdir(parents=True)
        for name, text in written[method, seed].items():
            if name != "result.json" or i % 50 != 7:
                text = text.replace("PART", PARTITIONS[partition]).replace("MODEL", f"model_{model}")
                failed = name == "result.json" and i % 50 == 3
                (place / name).write_text(
                    text.replace('"status": "completed"', '"status": "failed"') if failed else text
                )


def make_study(root: Path, count: int) -> list[str]:
    """A grid of which one job in ten has not begun and all others are complete; returns its overrides."""
    from functools import partial

    from semiseg.config import compose_run
    from semiseg.config.make import make, partition_args
    from semiseg.config.stored import config_yaml, plain
    from semiseg.runs.data import open_data

    fixed = ["data=shapes", "model=tiny", "study=bench"]
    seeds = range(count // (len(GRID["method"]) * len(GRID["protocol"])))
    for method in GRID["method"]:
        for protocol in GRID["protocol"]:
            cfg, folder = compose_run([*fixed, f"method={method}", f"protocol=shapes/{protocol}"])
            data = open_data(partial(make, cfg, "data"), partition_args(cfg), cfg.protocol.val_split)
            config = config_yaml(plain(cfg))
            for seed in seeds:
                if seed % 10 == 9:
                    continue
                place = root / folder.absolute().relative_to(Path("runs").absolute()).with_name(f"seed_{seed}")
                place.mkdir(parents=True)
                (place / "config.yaml").write_text(config.replace("\nseed: 0\n", f"\nseed: {seed}\n"))
                (place / "data.json").write_text(json.dumps(data.record))
                facts = {"status": "completed", "error": None, "method": method, "model": "tiny", "data": "shapes"}
                facts |= {"partition": protocol, "protocol": f"shapes/{protocol}", "seed": seed, "steps": 1000}
                facts |= {"seconds_training": 90.0, "seconds_validation": 9.0, "miou": {"best": 0.5}}
                (place / "result.json").write_text(json.dumps(facts))
    protocols = ",".join(f"shapes/{p}" for p in GRID["protocol"])
    varied = [f"method={','.join(GRID['method'])}", f"protocol={protocols}", f"seed={','.join(map(str, seeds))}"]
    return [*fixed, *varied]


COLORS = {"report": "#1f6fb4", "report again": "#7fb2dc", "plan": "#c2571a"}
WIDTH, HEIGHT, LEFT, TOP_MARGIN, BOTTOM = 300, 230, 46, 26, 40


def draw(rows: Sequence[dict]) -> str:
    """The curve as SVG, seconds at the left and MB at the right; both axes are logarithmic."""
    seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in COLORS}
    memory: dict[str, list[tuple[float, float]]] = {name: [] for name in COLORS}
    for row in rows:
        name, count = row["name"].removesuffix(" runs").rsplit(", ", 1)
        runs = float(count.replace(",", ""))
        seconds[name].append((runs, row["value"]))
        memory[name].append((runs, float(row["detail"].removesuffix(" MB"))))
    panels = _panel(seconds, "processor time (s)", 0) + _panel(memory, "peak memory (MB)", WIDTH + 40)
    keys = ""
    for i, (name, color) in enumerate(COLORS.items()):
        keys += f'<text x="{LEFT + 110 * i}" y="14" fill="{color}">{name}</text>\n'
    size = f'viewBox="0 0 {2 * WIDTH + 60} {HEIGHT}" width="{2 * WIDTH + 60}" height="{HEIGHT}"'
    style = 'font-family="sans-serif" font-size="12" fill="#555"'
    return f'<svg xmlns="http://www.w3.org/2000/svg" {size} {style}>\n{keys}{panels}</svg>\n'


def _panel(lines: dict[str, list[tuple[float, float]]], label: str, left: float) -> str:
    values = [value for points in lines.values() for _, value in points]
    low, high = math.floor(math.log10(min(values))), math.ceil(math.log10(max(values)))

    def x(runs: float) -> float:
        return left + LEFT + 16 + (math.log10(runs) - math.log10(COUNTS[0])) / 2 * (WIDTH - LEFT - 32)

    def y(value: float) -> float:
        return HEIGHT - BOTTOM - (math.log10(value) - low) / (high - low) * (HEIGHT - BOTTOM - TOP_MARGIN)

    found = f'<text x="{left + LEFT}" y="{HEIGHT - 4}">run folders; {label}</text>\n'
    for power in range(low, high + 1):
        at = y(10.0**power)
        found += f'<path d="M{left + LEFT} {at:.1f}h{WIDTH - LEFT}" stroke="#bbb" stroke-width=".5"/>\n'
        found += f'<text x="{left + LEFT - 6}" y="{at + 4:.1f}" text-anchor="end">{10.0**power:g}</text>\n'
    for runs in COUNTS:
        found += f'<text x="{x(runs):.1f}" y="{HEIGHT - 22}" text-anchor="middle">{runs:,}</text>\n'
    for name, points in lines.items():
        path = " ".join(f"{x(runs):.1f},{y(value):.1f}" for runs, value in points)
        found += f'<polyline points="{path}" fill="none" stroke="{COLORS[name]}" stroke-width="2"/>\n'
        for runs, value in points:
            found += f'<circle cx="{x(runs):.1f}" cy="{y(value):.1f}" r="3" fill="{COLORS[name]}"/>\n'
            at = y(value) + (15 if name == "report again" else -7)
            number = f"{value:.0f}" if value >= 10 else f"{value:.1f}"
            found += f'<text x="{x(runs):.1f}" y="{at:.1f}" text-anchor="middle" font-size="10" fill="{COLORS[name]}">'
            found += f"{number}</text>\n"
    return found


if __name__ == "__main__":
    measured, picture = map(Path, sys.argv[1:])
    picture.write_text(draw(json.loads(measured.read_text())["rows"]))
