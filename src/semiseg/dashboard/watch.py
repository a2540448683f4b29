"""``semiseg report --watch``: the page of a running study, written again whenever something has changed."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

from semiseg.dashboard.html.run_list import Live, seconds_left, status_counts
from semiseg.dashboard.outputs import Report, write_report
from semiseg.dashboard.read.cache import RunReader
from semiseg.dashboard.read.files import Unreadable, read_json
from semiseg.dashboard.read.find import find_runs
from semiseg.dashboard.read.run import Run
from semiseg.dashboard.text.formats import format_seconds
from semiseg.errors import InputError
from semiseg.runs.secrets import mask_text


def watch(dirs: list[Path], out: Path, every: float = 5.0, quiet: float = 120.0, *, overwrite: bool = False) -> int:
    """Keep the report up to date until nothing runs any more, or Ctrl-C.

    Args:
        dirs: folders that hold runs, or will.
        out: the page.
        every: seconds between two looks; the browser loads the page again as often.
        overwrite: replace files that were not written by a report.
        quiet: ends when no run is alive and nothing has changed for so many seconds.

    Raises:
        InputError: after ``quiet`` seconds without a single run.
    """
    reader, shown, since, cost = RunReader(), "", time.monotonic(), 0.0
    try:
        while True:
            is_quiet = time.monotonic() - since >= quiet
            runs = _look(dirs, reader, give_up=is_quiet)
            if (state := _state(runs)) != shown:
                begin = time.perf_counter()
                _write(dirs, out, reader, refresh=max(1, round(every)), overwrite=overwrite)
                cost = time.perf_counter() - begin
                if not shown:
                    print(f"Watching: open {out} in a browser; Ctrl-C ends it", flush=True)
                shown, since = state, time.monotonic()
            elif is_quiet and not any(run.status == "running" for run in runs):
                break
            time.sleep(max(every, 10 * cost))  # hundreds of runs take seconds to draw: leave the machine to them
        print(f"Nothing runs, and nothing has changed for {quiet:.0f} s.")
    except KeyboardInterrupt:
        print()
    if shown:
        _write(dirs, out, reader, refresh=0, overwrite=overwrite)
        print(f"Report: {out}")
    return 0


def _look(dirs: list[Path], reader: RunReader, *, give_up: bool) -> list[Run]:
    """The runs; none as long as the first has not begun, unless we have waited long enough."""
    try:
        return find_runs(dirs, reader)
    except InputError:
        if give_up:
            raise
        return []


def waiting(dirs: Sequence[Path], runs: Sequence[Run]) -> tuple[str, ...]:
    """Jobs that a sweep has planned, by the ``sweep.json`` of its study, and that have no run folder yet."""
    begun = {run.folder.resolve() for run in runs}
    studies = [study for root in dirs for study in (root, *root.glob("*"))] + [
        run.folder.parents[4] for run in runs if len(run.folder.parents) > 4
    ]
    found: dict[Path, str] = {}
    for study in dict.fromkeys(folder.resolve() for folder in studies):
        try:
            plan = read_json(study / "sweep.json")
            jobs = [(study / j["folder"], mask_text(" ".join(map(str, j["overrides"])))) for j in plan["jobs"]]
        except (OSError, Unreadable, TypeError, KeyError):
            continue  # no sweep, or its plan is being written
        found |= {folder: overrides for folder, overrides in jobs if folder.resolve() not in begun}
    return tuple(found.values())


def _state(runs: Sequence[Run]) -> str:
    """What a person would see change; "" without runs."""
    return "\n".join(f"{run.folder} {run.status} {run.progress} {run.last_step} {run.error}" for run in runs)


def _write(dirs: list[Path], out: Path, reader: RunReader, *, refresh: int, overwrite: bool) -> Report:
    runs = find_runs(dirs, reader)
    left = seconds_left(runs)
    planned = waiting(dirs, runs)
    facts = [time.strftime("as of %Y-%m-%d %H:%M:%S"), status_counts(runs)]
    facts.append(f"{len(planned)} waiting" if planned else "")
    facts.append(f"running jobs end in about {format_seconds(left)}" if left is not None else "")
    facts.append(f"loaded again every {refresh} s" if refresh else "not watched any more")
    live = Live(refresh, planned, "; ".join(fact for fact in facts if fact))
    return write_report(dirs, out, reader, live, overwrite=overwrite)
