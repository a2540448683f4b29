"""Cost estimate of a sweep before it starts: which jobs are done, and the time for the rest on n workers."""

from __future__ import annotations

import heapq
import json
import logging
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from semiseg.config.quoting import quoted
from semiseg.runs.folder import RunFolder
from semiseg.runs.result import RunResult
from semiseg.sweep.jobs import Job
from semiseg.sweep.manifest import MANIFEST
from semiseg.sweep.plan import Kind, Planned
from semiseg.sweep.worker import state

log = logging.getLogger(__name__)

WORKERS = (1, 2, 4, 8, 16, 32, 64)


@dataclass(frozen=True)
class Speed:
    """Seconds per optimizer step, and per validation."""

    step: float
    validation: float


@dataclass(frozen=True)
class Row:
    """A job in the list. ``seconds``: remaining time; None if unknown."""

    status: str
    job: Job
    note: str
    seconds: float | None


def describe_plan(planned: Sequence[Planned], measure: Callable[[Planned], Speed | None] | None = None) -> str:
    """The jobs with their state, and a time estimate for the unfinished ones.

    Args:
        planned: the jobs of a sweep.
        measure: measures the speed of a job if no earlier run of the study provides it; by default with five steps.
    """
    studies = dict.fromkeys(RunFolder(p.job.folder).study for p in planned)
    speeds = earlier_speeds(planned, studies)
    rows = [row(p, None) for p in planned]
    for p, found in zip(planned, rows):
        if found.status in TO_DO and p.kind not in speeds:
            measured = (measure or measure_speed)(p)
            if measured is not None:
                speeds[p.kind] = measured
    rows = [row(p, speeds.get(p.kind)) for p in planned]
    counts = {s: sum(r.status == s for r in rows) for s in dict.fromkeys(r.status for r in rows)}
    lines = [f"  {r.status:9}  {r.job.name}{f'  ({r.note})' if r.note else ''}" for r in rows]
    lines.append(f"{len(rows)} jobs: " + ", ".join(f"{n} {status}" for status, n in counts.items()))
    to_do = [r for r in rows if r.status in TO_DO]
    known = [r.seconds for r in to_do if r.seconds is not None]
    if known:
        sizes = [n for n in WORKERS if n == 1 or n < 2 * len(known)]
        times = ", ".join(f"{duration(makespan(known, n))} on {n}" for n in sizes)
        lines.append(f"time on n workers, excluding startup: {times}")
    if len(known) < len(to_do):
        lines.append(f"time unknown for {len(to_do) - len(known)} job(s): they count epochs, or could not be measured")
    lines += [f"plan: {study / MANIFEST}; run it with semiseg worker {study}" for study in studies]
    return "\n".join(lines)


TO_DO = ("waiting", "begun")


def row(planned: Planned, speed: Speed | None) -> Row:
    """The row of a job, with the remaining time at the given speed."""
    job = planned.job
    found = planned.done or state(job)
    if found.status in ("completed", "pruned"):
        score = "" if found.miou is None else f"mIoU {100 * found.miou:.2f}"
        return Row("complete" if found.status == "completed" else "pruned", job, score, 0.0)
    if found.status == "failed" and planned.done is not None:
        return Row("failed", job, (found.error or "")[:100], 0.0)
    step = _step_reached(RunFolder(job.folder))
    note = f"step {step} of {planned.max_steps}" if step else ""
    seconds = None
    if speed is not None and planned.max_steps:
        left = max(0, planned.max_steps - step)
        seconds = left * speed.step + -(-left // planned.val_every) * speed.validation
    return Row("begun" if step else "waiting", job, note, seconds)


def _step_reached(folder: RunFolder) -> int:
    try:
        return int(json.loads(folder.progress.read_text())["step"])
    except (OSError, ValueError, KeyError, TypeError):
        return 0


def earlier_speeds(planned: Sequence[Planned], studies: Iterable[Path]) -> dict[Kind, Speed]:
    """The mean speed of each kind of run with results in the studies."""
    val_every = {p.kind: p.val_every for p in planned}
    found: dict[Kind, list[Speed]] = {}
    for study in studies:
        for path in study.glob("*/*/*/*/*/result.json"):
            result = RunFolder(path.parent).read_result()
            if result and result["steps"]:
                of = (result["data"], result["method"], result["model"])
                if of in val_every:
                    found.setdefault(of, []).append(_speed(result, val_every[of]))
    return {
        of: Speed(sum(s.step for s in some) / len(some), sum(s.validation for s in some) / len(some))
        for of, some in found.items()
    }


def _speed(result: RunResult, val_every: int) -> Speed:
    steps = result["steps"] or 1
    validations = -(-steps // val_every)
    return Speed((result["seconds_training"] or 0.0) / steps, (result["seconds_validation"] or 0.0) / validations)


def measure_speed(planned: Planned) -> Speed | None:
    """Time a job by a dry run in a separate process; None if that fails."""
    job = planned.job
    with tempfile.TemporaryDirectory(prefix="semiseg_plan_") as place:
        file = Path(place) / "speed.json"
        command = [sys.executable, "-m", "semiseg.training.dry_run", str(file), *job.overrides]
        done = subprocess.run([*command, quoted("hydra.run.dir", job.folder)], capture_output=True, text=True)
        if done.returncode:
            last = (done.stderr.strip() or "no message").splitlines()[-1].removeprefix("semiseg.errors.InputError: ")
            log.warning("%s: five steps could not be run (%s)", job.name, last)
            return None
        found = json.loads(file.read_text())
    images = found["val_subset"] or found["n_val"]
    return Speed(found["step"], found["validation"] + images * found["image"])


def makespan(seconds: Sequence[float], workers: int) -> float:
    """Time until all jobs are done if each free worker takes the longest remaining one."""
    ends = [0.0] * workers
    for job in sorted(seconds, reverse=True):
        heapq.heappush(ends, heapq.heappop(ends) + job)
    return max(ends)


def duration(seconds: float) -> str:
    """Human-readable duration: ``40 s``, ``12 min``, ``3.5 h``, ``2.1 d``."""
    for unit, size, limit in (("s", 1, 120), ("min", 60, 7200), ("h", 3600, 172800)):
        if seconds < limit:
            return f"{seconds / size:.{1 if unit == 'h' else 0}f} {unit}"
    return f"{seconds / 86400:.1f} d"
