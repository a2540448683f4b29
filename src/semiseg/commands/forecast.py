"""``semiseg forecast``: estimates what more labels would bring."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from semiseg.commands.args import folders, option, parse
from semiseg.commands.evaluate import check_output
from semiseg.errors import InputError


@dataclass(frozen=True, kw_only=True)
class Arguments:
    """Fits a learning curve to runs with different numbers of labeled images: how many more labels for how many points.

    Uses all complete runs in the given folders. They must share method, model and validation images. The score is the
    mIoU after the last step.
    """

    usage: ClassVar = "semiseg forecast RUN... [key=value ...]"

    output: Path | None = option("save a plot of the curve", value="FILE.svg")
    overwrite: bool = option("replace an existing plot", False)


def main(argv: Sequence[str]) -> int:
    """Print the curve and its forecast."""
    if (parsed := parse(argv, Arguments)) is None:
        return 0
    arguments, rest = parsed
    given = folders(rest, "forecast", "semiseg forecast runs/labels")
    output = arguments.output
    if output is not None and output.suffix != ".svg":
        raise InputError(f"output={output}: expected a name that ends in .svg")
    if output is not None:
        check_output(output, overwrite=arguments.overwrite)
    from semiseg.dashboard.compare.forecast import comparable, fit, point
    from semiseg.dashboard.html.charts.learning import learning_chart
    from semiseg.dashboard.read.find import find_runs
    from semiseg.dashboard.text.forecast import describe
    from semiseg.runs.files import write_text

    found = find_runs(given)
    runs = comparable(found)
    points = [(n, miou) for n, miou in map(point, runs) if n is not None and miou is not None]
    curve = fit(points)
    title = f"{runs[0].method}, {runs[0].model} on {runs[0].data}"
    print(f"{title}: {len(runs)} runs" + (f", {len(found) - len(runs)} incomplete left out" * (len(found) > len(runs))))
    print(describe(curve, points))
    lengths = sorted({run.result.steps for run in runs if run.result and run.result.steps})
    if len(lengths) > 1:
        listed = ", ".join(map(str, lengths))
        print(f"note: the runs have different numbers of steps, {listed}: part of the gain may come from them")
    if output is not None:
        try:
            write_text(output, learning_chart(curve, points, title))
        except OSError as e:
            raise InputError(f"output={output} cannot be written ({e.strerror}): choose another file") from e
        print(f"plot: {output}")
    return 0
