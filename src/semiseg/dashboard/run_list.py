"""The list of runs: status, where, by which command, from which commit, and what went wrong."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from semiseg.dashboard.markup import Html, el
from semiseg.dashboard.runs import Run
from semiseg.dashboard.tables import format_seconds

# What needs a look comes first.
STATUSES = ("failed", "unreadable", "interrupted", "unfinished", "running", "completed")


def status_counts(runs: Sequence[Run]) -> str:
    """Such as "1 failed, 2 unfinished"; "" when all are completed."""
    counts = Counter(run.status for run in runs)
    return ", ".join(f"{counts[status]} {status}" for status in STATUSES[:-1] if counts[status])


def run_list(runs: Sequence[Run]) -> Html:
    """One line per run that opens to its details; open already where something went wrong."""
    ordered = sorted(runs, key=lambda run: STATUSES.index(run.status))
    heading = el("div", el("h3", "All runs"), el("p", "click for command, versions and overrides"), class_="card-head")
    return el("section", heading, [_run(run) for run in ordered], class_="card runs", id="runs")


def _run(run: Run) -> Html:
    result = run.result
    steps = result.steps if result and result.steps is not None else run.last_step
    progress = "–" if steps is None else f"{steps:,}"
    if run.max_steps and run.status != "completed":
        progress += f" of {run.max_steps:,}"
    miou = "–" if result is None or result.miou_best is None else f"{100 * result.miou_best:.2f} %"
    summary = el(
        "summary",
        el("span", run.status, class_=f"status {run.status}"),
        el("b", run.method),
        el("span", "–" if run.seed is None else f"seed {run.seed}"),
        el("span", f"{run.data} / {run.partition} / {run.model}", class_="muted"),
        el("span", miou, class_="number", title="best mIoU"),
        el("span", progress, class_="number", title="steps"),
        el(
            "span",
            format_seconds(result.seconds_training if result else None),
            class_="number",
            title="training time",
        ),
    )
    reason = result.error.strip() if result and result.error else run.error
    error = el("pre", reason, class_="error") if reason and run.status not in ("running", "unreadable") else None
    problems = el("ul", [el("li", problem) for problem in run.problems], class_="notes") if run.problems else None
    needs_a_look = run.status in ("failed", "unreadable") or bool(problems)
    return el("details", summary, error, problems, _details(run), open=needs_a_look)


def _details(run: Run) -> Html:
    result = run.result
    facts: dict[str, str | None] = {"folder": run.folder.as_posix(), "study": run.study}
    if result:
        memory = None if result.peak_memory_mb is None else f"{result.peak_memory_mb:,.0f} MB"
        commit = (result.git_commit or "") + (" (with uncommitted changes)" if result.git_dirty else "")
        facts |= {
            "command": result.command,
            "overrides": " ".join(run.overrides),
            "started": result.started,
            "finished": result.finished,
            "peak memory": memory,
            "commit": commit.strip(),
            "versions": ", ".join(f"{name} {version}" for name, version in sorted(result.versions.items())),
        }
    code = {"folder", "command", "overrides", "commit"}
    return el(
        "dl",
        [[el("dt", k), el("dd", el("code", v) if k in code else v)] for k, v in facts.items() if v],
        class_="details",
    )
