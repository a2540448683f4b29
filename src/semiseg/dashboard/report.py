"""``semiseg report``: a self-contained HTML page, a CSV and a Markdown table over all runs below folders."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from semiseg.dashboard.jobs import Live
from semiseg.dashboard.page import build_page
from semiseg.dashboard.runs import Run, RunReader, find_runs
from semiseg.dashboard.tables import Section, make_sections
from semiseg.dashboard.text import csv_text, markdown, published_csv
from semiseg.errors import InputError


@dataclass(frozen=True)
class Report:
    """What was written where, and what it was made of."""

    html: Path
    csv: Path
    markdown: Path
    text: str
    sections: tuple[Section, ...]
    runs: tuple[Run, ...]


def write_report(dirs: list[Path], out: Path, reader: RunReader | None = None, live: Live | None = None) -> Report:
    """Read every run at or below ``dirs``; write the page ``out``, and a CSV and a Markdown file beside it.

    Where runs have used an official list with published numbers, ``<out>_published.csv`` holds these. ``reader``
    remembers what it has read, ``live`` is for the page of a study that goes on.

    Calling it again replaces the files, each in one step: a page that is being looked at is never half
    written.

    Raises:
        InputError: if there is no run, a folder is missing, or ``out`` cannot be written.
    """
    if out.suffix != ".html":
        raise InputError(f"{out}: the report must end in .html, for example {out.with_suffix('.html')}")
    runs = find_runs(dirs, reader)
    sections = make_sections(runs)
    title = _title(runs)
    text = markdown(sections)
    report = Report(out, out.with_suffix(".csv"), out.with_suffix(".md"), text, tuple(sections), tuple(runs))
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        _write(report.csv, csv_text(sections))
        if published := published_csv(sections):
            _write(out.with_name(f"{out.stem}_published.csv"), published)
        _write(report.markdown, f"# {title}\n\n{text}")
        _write(report.html, build_page(sections, runs, title, live))
    except OSError as error:
        raise InputError(f"{out}: the report cannot be written ({error.strerror}); choose another output") from error
    return report


def main(
    dirs: list[str], output: str | None, *, watching: bool = False, every: float = 5.0, quiet: float = 120.0
) -> int:
    """The command: write the report (default: ``report.html`` in the first folder), print table and path.

    ``watching`` keeps it up to date until nothing runs any more.
    """
    folders = [Path(name) for name in dirs]
    if output:
        out = Path(output) / "report.html" if Path(output).is_dir() else Path(output)
    else:
        out = folders[0] / "report.html" if folders else Path("report.html")
    if watching:
        from semiseg.dashboard.watch import watch  # it writes reports itself

        return watch(folders, out, every, quiet)
    report = write_report(folders, out)
    print(report.text)
    print(f"Report: {report.html}")
    return 0


def _title(runs: Sequence[Run]) -> str:
    studies = sorted({run.study for run in runs})
    return f"Study {studies[0]}" if len(studies) == 1 else f"{len(studies)} studies: {', '.join(studies)}"


def _write(path: Path, text: str) -> None:
    partial = path.with_name(f".{path.name}.partial")
    partial.write_text(text, encoding="utf-8", newline="\n")
    os.replace(partial, path)
