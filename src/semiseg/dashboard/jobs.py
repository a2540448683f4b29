"""The state of every job of a sweep: what the page of a running study shows first."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

from semiseg.dashboard.markup import Html, el
from semiseg.dashboard.run_list import STATUSES
from semiseg.dashboard.runs import Run
from semiseg.dashboard.tables import format_seconds
from semiseg.dashboard.widgets import card, table


@dataclass(frozen=True)
class Live:
    """What a page of a running study knows besides the runs.

    Attributes:
        refresh: seconds after which a browser loads the page again; 0 for the last page.
        waiting: jobs that have not begun, one line each.
        note: when the page was written, and what goes on.
    """

    refresh: int
    waiting: tuple[str, ...]
    note: str


def jobs_card(runs: Sequence[Run], waiting: Sequence[str], note: str) -> Html:
    """One line per job: failures first, then those that run, wait, and are complete."""
    order = [status for status in STATUSES if status not in ("running", "completed")] + ["running", "completed"]
    rows = [_row(run) for run in sorted(runs, key=lambda run: order.index(run.status))]
    n_done = sum(run.status == "completed" for run in runs)
    rows[len(rows) - n_done : len(rows) - n_done] = [_waiting(job) for job in waiting]
    header = ["State", "Job", "Progress", "Step", "Left", "mIoU last", "mIoU best", "Sign of life"]
    return card("Jobs", note, table(header, rows), class_="jobs")


def seconds_left(runs: Sequence[Run]) -> float | None:
    """Until the last of the running runs ends, as far as they say; jobs that wait are not counted."""
    left = [run.progress.seconds_left for run in runs if run.status == "running" and run.progress]
    return max((seconds for seconds in left if seconds is not None), default=None)


def _row(run: Run) -> list[Html]:
    step = run.last_step
    if run.result and run.result.steps is not None and run.status != "running":
        step = run.result.steps
    share = min(1.0, step / run.max_steps) if step is not None and run.max_steps else None
    if run.status == "completed":
        share = 1.0
    seed = "" if run.seed is None else f" seed {run.seed}"
    where = f"{run.data} / {run.partition} / {run.model}" + (f" · {run.variant}" if run.variant else "")
    error = el("p", run.error, class_="why") if run.error and run.status != "completed" else None
    running = run.progress if run.status == "running" else None
    steps = "–" if step is None else f"{step:,}" + (f" of {run.max_steps:,}" if run.max_steps else "")
    curve = run.curves.get("val/miou")
    values = [value for value in curve.values.tolist() if value == value] if curve else []
    return [
        el("td", el("span", run.status, class_=f"status {run.status}")),
        el("td", el("b", run.method), seed, el("small", f" {where}"), error),
        el("td", _bar(share, run.status)),
        el("td", steps, class_="number"),
        el("td", format_seconds(running.seconds_left) if running else "–", class_="number"),
        el("td", f"{100 * values[-1]:.2f}" if values else "–", class_="number"),
        el("td", f"{100 * max(values):.2f}" if values else "–", class_="number"),
        el("td", _sign(run), class_="number"),
    ]


def _waiting(job: str) -> list[Html]:
    return [el("td", el("span", "waiting", class_="status waiting")), el("td", job, colspan="7")]


def _bar(share: float | None, status: str) -> Html | None:
    if share is None:
        return None
    return el("span", el("i", style=f"width:{100 * share:.0f}%"), class_=f"bar {status}", title=f"{100 * share:.0f} %")


def _sign(run: Run) -> str:
    """When and where the run was last heard of."""
    if run.progress is None:
        return "–"
    doing = " (validating)" if run.status == "running" and run.progress.doing == "validate" else ""
    return f"{time.strftime('%H:%M:%S', time.localtime(run.progress.time))} {run.progress.host}{doing}"
