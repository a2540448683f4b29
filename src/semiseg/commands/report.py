"""``semiseg report``: one page over all runs in the given folders."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar

from pydantic import Field

from semiseg.commands.args import folders, option, parse


@dataclass(frozen=True, kw_only=True)
class Arguments:
    """Writes one page over all runs in DIR, with CSV and Markdown tables and published numbers on the same labels.

    --watch is short for watch=true.
    """

    usage: ClassVar = "semiseg report DIR... [key=value ...]"

    output: Path | None = option("the page (default: report.html in the first folder)", value="FILE")
    watch: bool = option("keep updating it while runs are active: state, progress, time left, failures", False)
    every: Annotated[float, Field(gt=0)] = option("polling interval in seconds", 5.0)
    quiet: Annotated[float, Field(gt=0)] = option(
        "exit when no run is active and nothing has changed for this many seconds", 120.0
    )
    overwrite: bool = option("also replace files that are not semiseg reports", False)


def main(argv: Sequence[str]) -> int:
    """Write the report, once or while runs are active."""
    parsed = parse(["watch=true" if arg == "--watch" else arg for arg in argv], Arguments)
    if parsed is None:
        return 0
    arguments, rest = parsed
    given = folders(rest, "report", "semiseg report runs", ("--watch", "--help"))
    from semiseg.dashboard.report import main as report

    return report(
        given,
        arguments.output,
        watching=arguments.watch,
        every=arguments.every,
        quiet=arguments.quiet,
        overwrite=arguments.overwrite,
    )
