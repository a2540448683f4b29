"""Lines over training steps, with values shown at the pointer."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from xml.etree.ElementTree import Element

import numpy as np
from markupsafe import Markup

from semiseg.dashboard.html.charts.axes import BOTTOM, LEFT, RIGHT, TOP, Scale, nice_ticks, short, x_axis, y_axis
from semiseg.dashboard.html.charts.svg import add, frame, markup
from semiseg.dashboard.read.metrics import Curve

MAX_POINTS = 150  # per line: more would share pixels and are averaged in bins
_ALL_POINTS = 20_000  # per chart: many lines get fewer points each
_FEWEST_POINTS = 24
MAX_LINES = 60  # per chart: more are unreadable


@dataclass(frozen=True)
class Line:
    """One entry of a line chart: a thick line for ``main`` (the mean) and a thin one for each of ``seeds``.

    Attributes:
        color: a CSS color, so that the page can set it per theme.
        dash: an SVG dash pattern, "" for a solid line.
    """

    label: str
    color: str
    main: Curve
    seeds: tuple[Curve, ...] = ()
    dash: str = ""


def mean_curve(curves: Sequence[Curve]) -> Curve:
    """Mean over the steps that all ``curves`` share, so that every step averages the same number of seeds."""
    steps = curves[0].steps
    for curve in curves[1:]:
        steps = np.intersect1d(steps, curve.steps)
    if len(steps) == 0:
        return Curve(steps, np.empty(0))
    return Curve(steps, np.mean([c.values[np.searchsorted(c.steps, steps)] for c in curves], axis=0))


def thin(curve: Curve, limit: int = MAX_POINTS) -> Curve:
    """The curve itself, or the means of ``limit`` consecutive bins if it has more than ``limit`` points."""
    if len(curve.steps) <= limit:
        return curve
    steps = [round(float(part.mean())) for part in np.array_split(curve.steps, limit)]
    return Curve(np.array(steps), np.array([part.mean() for part in np.array_split(curve.values, limit)]))


def line_chart(lines: Sequence[Line], *, name: str, percent: bool, width: int, height: int) -> Markup | None:
    """Lines over steps; None if there is no finite point to draw.

    Args:
        lines: the first `MAX_LINES` are drawn; individual seeds only if the chart stays readable.
        name: name of the values, for the y axis and for screen readers.
        percent: values are fractions, shown in percent.
    """
    lines = lines[:MAX_LINES]
    with_seeds = sum(1 + len(line.seeds) for line in lines) <= MAX_LINES
    n_lines = max(1, sum(1 + len(line.seeds) * with_seeds for line in lines))
    limit = min(MAX_POINTS, max(_FEWEST_POINTS, _ALL_POINTS // n_lines))
    lines = [
        Line(x.label, x.color, thin(x.main, limit), tuple(thin(c, limit) for c in x.seeds if with_seeds), x.dash)
        for x in lines
    ]
    curves = [curve for line in lines for curve in (line.main, *line.seeds)]
    values = np.concatenate([curve.values for curve in curves]) if curves else np.empty(0)
    values = values[np.isfinite(values)]
    if len(values) == 0:
        return None
    steps = np.concatenate([curve.steps for curve in curves])
    first, last = int(steps.min()), int(steps.max())
    x_ticks = nice_ticks(first, last, max(3, width // 90))
    x_ticks = [tick for tick in x_ticks if first <= tick <= last and tick == int(tick)]
    y_ticks = nice_ticks(float(values.min()), float(values.max()), max(3, height // 50))
    if percent:  # the axis of a fraction must not exceed [0, 1] to reach round numbers
        y_ticks = [tick for tick in y_ticks if 0 <= tick <= 1]
    x = Scale(first, max(last, first + 1), LEFT, width - RIGHT)
    y = Scale(min([*y_ticks, values.min()]), max([*y_ticks, values.max()]), height - BOTTOM, TOP)
    chart = frame(width, height, f"{name} over training steps")
    y_axis(chart, y, y_ticks, name, percent=percent, width=width)
    x_axis(chart, x, x_ticks, [short(tick) for tick in x_ticks], "step", height)
    add(chart, "line", class_="cursor", x1=0, x2=0, y1=TOP, y2=height - BOTTOM, visibility="hidden")
    for line in lines:
        for curve in line.seeds:
            _path(chart, curve, line, x, y, "seed")
    for line in lines:
        _path(chart, line.main, line, x, y, "mean")
    values_at = [
        [line.label, line.color, line.main.steps.tolist(), [_json_number(v) for v in line.main.values]]
        for line in lines
    ]
    chart.set("data-lines", json.dumps(values_at, separators=(",", ":"), allow_nan=False))
    chart.set("data-scale", json.dumps([x.low, x.high, x.start, x.end]))
    if percent:
        chart.set("data-percent", "")
    return markup(chart)


def _json_number(value: float) -> float | None:
    return float(f"{value:.5g}") if math.isfinite(value) else None


def _path(chart: Element, curve: Curve, line: Line, x: Scale, y: Scale, kind: str) -> None:
    """One path, broken where a value is not finite; a lone point becomes a dot."""
    pieces: list[list[str]] = [[]]
    for step, value in zip(curve.steps.tolist(), curve.values.tolist()):
        if math.isfinite(value):
            pieces[-1].append(f"{x(step):.1f},{y(value):.1f}")
        elif pieces[-1]:
            pieces.append([])
    # A round cap turns a zero-length path into a dot.
    path = "".join(f"M{p[0]}h0" if len(p) == 1 else "M" + "L".join(p) for p in pieces if p)
    if path:
        add(chart, "path", d=path, class_=kind, style=f"stroke:{line.color}", stroke_dasharray=line.dash or None)
