"""``semiseg report``: one page over all runs below folders."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar

from pydantic import Field

from semiseg.commands.args import option, parse
from semiseg.errors import InputError, suggest


@dataclass(frozen=True, kw_only=True)
class Arguments:
    """One page over all runs below, a CSV and a Markdown table beside it; published numbers of the same labeled images.

    --watch is short for watch=true.
    """

    usage: ClassVar = "semiseg report DIR... [key=value ...]"

    output: Path | None = option("the page (default: report.html in the first folder)", value="FILE")
    watch: bool = option("write it again while runs go on: state, progress, time left, failures", False)
    every: Annotated[float, Field(gt=0)] = option("seconds between two looks", 5.0)
    quiet: Annotated[float, Field(gt=0)] = option(
        "ends when nothing runs and nothing has changed for so many seconds", 120.0
    )
    overwrite: bool = option("replace a file that is not a report of semiseg", False)


def main(argv: Sequence[str]) -> int:
    """Write the report, once or as long as runs go on."""
    parsed = parse(["watch=true" if arg == "--watch" else arg for arg in argv], Arguments)
    if parsed is None:
        return 0
    arguments, folders = parsed
    if not folders:
        raise InputError("semiseg report needs a folder of runs, for example: semiseg report runs")
    for word in folders:
        if word.startswith("-"):
            raise InputError(f"unknown argument '{word}': {suggest(word, ('--watch', '--help'))}")
    from semiseg.dashboard.report import main as report

    return report(
        folders,
        str(arguments.output) if arguments.output else None,
        watching=arguments.watch,
        every=arguments.every,
        quiet=arguments.quiet,
        overwrite=arguments.overwrite,
    )
