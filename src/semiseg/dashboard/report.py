"""``semiseg report``: a self-contained HTML page, a CSV and a Markdown table over all runs in the given folders."""

from __future__ import annotations

from pathlib import Path

from semiseg.dashboard.outputs import Report, check_output, write_report
from semiseg.dashboard.watch import watch

__all__ = ["Report", "main", "write_report"]


def main(
    folders: list[Path],
    output: Path | None,
    *,
    watching: bool = False,
    every: float = 5.0,
    quiet: float = 120.0,
    overwrite: bool = False,
) -> int:
    """The command: write the report (default: ``report.html`` in the first folder), print table and path.

    ``watching`` keeps it up to date until all runs have ended; ``overwrite`` also replaces files that are not reports.
    """
    out = output or (folders[0] if folders else Path()) / "report.html"
    if out.is_dir():
        out = out / "report.html"
    if watching:
        check_output(out, overwrite=overwrite)
        return watch(folders, out, every, quiet, overwrite=overwrite)
    report = write_report(folders, out, overwrite=overwrite)
    print(report.text)
    print(f"Report: {report.html}")
    return 0
