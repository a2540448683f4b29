"""The files of a report: an HTML page, a CSV and a Markdown file. Other files are never replaced silently."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from semiseg.dashboard.compare.tables import Section, make_sections
from semiseg.dashboard.html.page import MARKER, build_page
from semiseg.dashboard.html.run_list import Live
from semiseg.dashboard.read.cache import RunReader
from semiseg.dashboard.read.files import is_regular
from semiseg.dashboard.read.find import find_runs
from semiseg.dashboard.read.run import Run
from semiseg.dashboard.text import markdown
from semiseg.dashboard.text.formats import FOOTNOTE
from semiseg.dashboard.text.tables_csv import HEADER_START, PUBLISHED_HEADER_START, csv_text, published_csv
from semiseg.errors import InputError
from semiseg.runs.files import write_text

# Markers of files written by a report, by suffix; the second ones are those of older versions.
_OURS = {
    ".html": (MARKER, "· semiseg report</title>"),
    ".md": (markdown.MARKER, FOOTNOTE[:60]),
    ".csv": (HEADER_START, PUBLISHED_HEADER_START),
}


@dataclass(frozen=True)
class Report:
    """The written files, and the runs they are based on."""

    html: Path
    csv: Path
    markdown: Path
    text: str
    sections: tuple[Section, ...]
    runs: tuple[Run, ...]


def write_report(
    dirs: list[Path],
    out: Path,
    reader: RunReader | None = None,
    live: Live | None = None,
    *,
    overwrite: bool = False,
) -> Report:
    """Read every run at or below ``dirs``; write the page ``out``, with a CSV and a Markdown file next to it.

    If runs used an official list with published numbers, these are written to ``<out>_published.csv``. ``reader``
    caches what it has read, ``live`` is for the page of a running study, and ``overwrite`` also replaces files that
    were not written by a report.

    Repeated calls replace each file atomically: a browser never sees a partially written page.

    Raises:
        InputError: if there is no run, a folder is missing, ``out`` cannot be written, or one of the files exists and
            was not written by a report.
    """
    check_output(out, overwrite=overwrite)
    runs = find_runs(dirs, reader)
    sections = make_sections(runs)
    title = _title(runs)
    page, table, table_csv, published_file = _paths(out)
    text = _writable(markdown.markdown(sections))
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        write_text(table_csv, _writable(csv_text(sections)))
        if published := published_csv(sections):
            write_text(published_file, _writable(published))
        write_text(table, _writable(markdown.markdown_file(title, text)))
        write_text(page, _writable(build_page(sections, runs, title, live)))
    except OSError as error:
        raise InputError(f"{out}: the report cannot be written ({error.strerror}); choose another output") from error
    return Report(page, table_csv, table, text, tuple(sections), tuple(runs))


def check_output(out: Path, *, overwrite: bool = False) -> None:
    """Check that a report may be written, before reading any runs.

    Raises:
        InputError: wrong suffix, or one of the files exists and was not written by a report.
    """
    if out.suffix != ".html":
        raise InputError(f"{out}: the report must end in .html, for example {out.with_suffix('.html')}")
    for path in _paths(out):
        if os.path.lexists(path) and not overwrite and not _is_ours(path):
            raise InputError(
                f"{path} exists and was not written by semiseg report; "
                "choose another output=FILE.html, or replace it with overwrite=true"
            )


def _paths(out: Path) -> tuple[Path, Path, Path, Path]:
    """The page, the Markdown file, the CSV, and the CSV of published numbers."""
    return out, out.with_suffix(".md"), out.with_suffix(".csv"), out.with_name(f"{out.stem}_published.csv")


def _is_ours(path: Path) -> bool:
    if not is_regular(path):
        return False
    try:
        with path.open(encoding="utf-8", errors="replace") as file:
            text = file.read(65_536) if path.suffix != ".md" else file.read()
    except OSError:
        return False
    if path.suffix == ".csv":
        return text.startswith(_OURS[".csv"])
    return any(mark in text for mark in _OURS[path.suffix])


def _title(runs: Sequence[Run]) -> str:
    studies = sorted({run.study for run in runs})
    named = ", ".join(studies[:6]) + (f" and {len(studies) - 6} more" if len(studies) > 6 else "")
    return f"Study {studies[0]}" if len(studies) == 1 else f"{len(studies)} studies: {named}"


def _writable(text: str) -> str:
    """Escape characters of file names that are not valid UTF-8."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")
