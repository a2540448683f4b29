"""``semiseg report --watch``: the page of a running study, rewritten whenever something changes."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

from semiseg.arguments import mask_text
from semiseg.dashboard.html.run_list import Live, seconds_left, status_counts
from semiseg.dashboard.outputs import Report, write_report
from semiseg.dashboard.read.cache import RunReader
from semiseg.dashboard.read.files import Unreadable, read_json
from semiseg.dashboard.read.find import find_runs
from semiseg.dashboard.read.run import Run
from semiseg.dashboard.text.formats import format_seconds
from semiseg.errors import InputError


def watch(dirs: list[Path], out: Path, every: float = 5.0, quiet: float = 120.0, *, overwrite: bool = False) -> int:
    """Keep the report up to date until all runs have ended, or Ctrl-C.

    Args:
        dirs: folders that contain or will contain runs.
        out: the page.
        every: polling interval in seconds; the browser reloads the page at the same interval.
        overwrite: also replace files that were not written by a report.
        quiet: exit when no run is alive and nothing has changed for this many seconds.

    Raises:
        InputError: there was no run for ``quiet`` seconds.
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
            time.sleep(max(every, 10 * cost))  # rendering hundreds of runs takes seconds: leave the CPU to the runs
        print(f"No run is active, and nothing has changed for {quiet:.0f} s.")
    except KeyboardInterrupt:
        print()
    if shown:
        _write(dirs, out, reader, refresh=0, overwrite=overwrite)
        print(f"Report: {out}")
    return 0


def _look(dirs: list[Path], reader: RunReader, *, give_up: bool) -> list[Run]:
    """The runs; an empty list while none has started, unless ``give_up``."""
    try:
        return find_runs(dirs, reader)
    except InputError:
        if give_up:
            raise
        return []


def waiting(dirs: Sequence[Path], runs: Sequence[Run]) -> tuple[str, ...]:
    """Jobs planned in the ``sweep.json`` of a study that have no run folder yet."""
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
            continue  # not a sweep, or its plan is being written
        found |= {folder: overrides for folder, overrides in jobs if folder.resolve() not in begun}
    return tuple(found.values())


def _state(runs: Sequence[Run]) -> str:
    """The visible state, to detect changes; "" without runs."""
    return "\n".join(f"{run.folder} {run.status} {run.progress} {run.last_step} {run.error}" for run in runs)


def _write(dirs: list[Path], out: Path, reader: RunReader, *, refresh: int, overwrite: bool) -> Report:
    runs = find_runs(dirs, reader)
    left = seconds_left(runs)
    planned = waiting(dirs, runs)
    facts = [time.strftime("as of %Y-%m-%d %H:%M:%S"), status_counts(runs)]
    facts.append(f"{len(planned)} waiting" if planned else "")
    facts.append(f"running jobs end in about {format_seconds(left)}" if left is not None else "")
    facts.append(f"reloads every {refresh} s" if refresh else "no longer updated")
    live = Live(refresh, planned, "; ".join(fact for fact in facts if fact))
    return write_report(dirs, out, reader, live, overwrite=overwrite)
