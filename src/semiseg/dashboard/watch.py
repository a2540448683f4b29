"""``semiseg report --watch``: the page of a study that goes on, written again whenever something has changed."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

from semiseg.dashboard.jobs import Live, seconds_left
from semiseg.dashboard.report import Report, write_report
from semiseg.dashboard.run_list import status_counts
from semiseg.dashboard.runs import Run, RunReader, find_runs
from semiseg.dashboard.tables import format_seconds
from semiseg.errors import InputError


def watch(dirs: list[Path], out: Path, every: float = 5.0, quiet: float = 120.0) -> int:
    """Keep the report up to date until nothing runs any more, or Ctrl-C.

    Args:
        dirs: folders that hold runs, or will.
        out: the page.
        every: seconds between two looks; the browser loads the page again as often.
        quiet: ends when no run is alive and nothing has changed for so many seconds.

    Raises:
        InputError: after ``quiet`` seconds without a single run.
    """
    reader, shown, since = RunReader(), "", time.monotonic()
    try:
        while True:
            is_quiet = time.monotonic() - since >= quiet
            runs = _look(dirs, reader, give_up=is_quiet)
            if (state := _state(runs)) != shown:
                _write(dirs, out, reader, refresh=max(1, round(every)))
                if not shown:
                    print(f"Watching: open {out} in a browser; Ctrl-C ends it", flush=True)
                shown, since = state, time.monotonic()
            elif is_quiet and not any(run.status == "running" for run in runs):
                break
            time.sleep(every)
        print(f"Nothing runs, and nothing has changed for {quiet:.0f} s.")
    except KeyboardInterrupt:
        print()
    if shown:
        _write(dirs, out, reader, refresh=0)
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


def _state(runs: Sequence[Run]) -> str:
    """What a person would see change; "" without runs."""
    return "\n".join(f"{run.folder} {run.status} {run.progress} {run.last_step} {run.error}" for run in runs)


def _write(dirs: list[Path], out: Path, reader: RunReader, refresh: int) -> Report:
    runs = find_runs(dirs, reader)
    left = seconds_left(runs)
    facts = [time.strftime("as of %Y-%m-%d %H:%M:%S"), status_counts(runs)]
    facts.append(f"running jobs end in about {format_seconds(left)}" if left is not None else "")
    facts.append(f"loaded again every {refresh} s" if refresh else "not watched any more")
    live = Live(refresh, (), "; ".join(fact for fact in facts if fact))
    return write_report(dirs, out, reader, live)
