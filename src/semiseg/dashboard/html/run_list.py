"""The list of runs and the table of jobs: status, location, command, commit, and errors."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from semiseg.dashboard.read.run import Run
from semiseg.dashboard.text.formats import format_seconds
from semiseg.runs.result import validation_share

# Runs that need attention come first.
STATUSES = ("failed", "unreadable", "interrupted", "unfinished", "running", "completed")
MAX_DETAILED = 400  # runs shown with details; those that need attention come first


@dataclass(frozen=True)
class Fact:
    """A name and a value; ``code`` values are shown in monospace."""

    name: str
    value: str
    code: bool = False


@dataclass(frozen=True)
class Row:
    """One run in the list."""

    run: Run
    miou: str
    progress: str
    seconds: str
    reason: str
    needs_a_look: bool
    facts: tuple[Fact, ...]


@dataclass(frozen=True)
class Job:
    """One run in the table of jobs. ``share``: completed steps in percent; None if unknown."""

    run: Run
    where: str
    share: int | None
    steps: str
    left: str
    miou_last: str
    miou_best: str
    sign: str


@dataclass(frozen=True)
class Live:
    """Additional contents of the page of a running study.

    Attributes:
        refresh: seconds after which a browser reloads the page; 0 for the final page.
        waiting: jobs that have not started, one line each.
        note: when the page was written, and counts of running and waiting jobs.
    """

    refresh: int
    waiting: tuple[str, ...]
    note: str


def status_counts(runs: Sequence[Run]) -> str:
    """For example "1 failed, 2 unfinished"; "" if all are completed."""
    counts = Counter(run.status for run in runs)
    return ", ".join(f"{counts[status]} {status}" for status in STATUSES[:-1] if counts[status])


def run_rows(runs: Sequence[Run]) -> list[Row]:
    """One entry per run; failures come first."""
    ordered = sorted(runs, key=lambda run: STATUSES.index(run.status))
    return [_row(run, detailed=i < MAX_DETAILED) for i, run in enumerate(ordered)]


def _row(run: Run, *, detailed: bool) -> Row:
    result = run.result
    steps = result.steps if result and result.steps is not None else run.last_step
    progress = "–" if steps is None else f"{steps:,}"
    if run.max_steps and run.status != "completed":
        progress += f" of {run.max_steps:,}"
    reason = (result.error or "").strip() if result else ""
    reason = reason or run.error or ""
    return Row(
        run=run,
        miou="–" if result is None or result.miou_best is None else f"{100 * result.miou_best:.2f} %",
        progress=progress,
        seconds=format_seconds(result.seconds_training if result else None),
        reason="" if run.status in ("running", "unreadable") else reason,
        needs_a_look=run.status in ("failed", "unreadable") or bool(run.problems),
        facts=_facts(run) if detailed or run.status != "completed" else (),
    )


def _facts(run: Run) -> tuple[Fact, ...]:
    facts: list[tuple[str, str | None, bool]] = [("folder", run.folder.as_posix(), True), ("study", run.study, False)]
    if result := run.result:
        memory = None if result.peak_memory_mb is None else f"{result.peak_memory_mb:,.0f} MB"
        share = validation_share(result.seconds_training, result.seconds_validation)
        validation = None if share is None else f"{100 * share:.0f} % of the time"
        commit = (result.git_commit or "") + (" (with uncommitted changes)" if result.git_dirty else "")
        facts += [
            ("command", result.command, True),
            ("overrides", " ".join(run.overrides), True),
            ("started", result.started, False),
            ("finished", result.finished, False),
            ("validation", validation, False),
            ("peak memory", memory, False),
            ("commit", commit.strip(), True),
            ("data", run.data_id, True),
            ("versions", ", ".join(f"{name} {version}" for name, version in sorted(result.versions.items())), False),
        ]
    return tuple(Fact(name, value, code) for name, value, code in facts if value)


def jobs(runs: Sequence[Run]) -> tuple[list[Job], list[Job]]:
    """Jobs that need attention or are running, failures first; and completed jobs."""
    order = [status for status in STATUSES if status not in ("running", "completed")] + ["running", "completed"]
    made = [_job(run) for run in sorted(runs, key=lambda run: order.index(run.status))]
    return [j for j in made if j.run.status != "completed"], [j for j in made if j.run.status == "completed"]


def seconds_left(runs: Sequence[Run]) -> float | None:
    """Time until the last of the active runs ends, as far as known; waiting jobs are not counted."""
    left = [run.progress.seconds_left for run in runs if run.status == "running" and run.progress]
    return max((seconds for seconds in left if seconds is not None), default=None)


def _job(run: Run) -> Job:
    step = run.last_step
    if run.result and run.result.steps is not None and run.status != "running":
        step = run.result.steps
    share = min(1.0, max(0.0, step / run.max_steps)) if step is not None and run.max_steps else None
    if run.status == "completed":
        share = 1.0
    curve = run.curves.get("val/miou")
    values = [value for value in curve.values.tolist() if value == value] if curve else []
    running = run.progress if run.status == "running" else None
    return Job(
        run=run,
        where=f"{run.data} / {run.partition} / {run.model}" + (f" · {run.variant}" if run.variant else ""),
        share=None if share is None else round(100 * share),
        steps="–" if step is None else f"{step:,}" + (f" of {run.max_steps:,}" if run.max_steps else ""),
        left=format_seconds(running.seconds_left) if running else "–",
        miou_last=f"{100 * values[-1]:.2f}" if values else "–",
        miou_best=f"{100 * max(values):.2f}" if values else "–",
        sign=_sign(run),
    )


def _sign(run: Run) -> str:
    """Time and host of the run's last heartbeat."""
    if run.progress is None:
        return "–"
    doing = " (validating)" if run.status == "running" and run.progress.doing == "validate" else ""
    when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(run.progress.time))
    today = time.strftime("%Y-%m-%d ")
    return f"{when.removeprefix(today)} {run.progress.host}{doing}"
