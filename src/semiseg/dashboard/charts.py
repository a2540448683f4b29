"""Charts as inline SVG: lines over steps, grouped bars over classes, dots over seeds. No library, no links.

Colors are CSS colors, so that a page can give them per theme; text and rules take theirs from the classes
``axis``, ``grid`` and ``note`` of the page's style sheet.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from semiseg.dashboard.markup import Html, el, join
from semiseg.dashboard.run_files import Curve
from semiseg.dashboard.tables import Stat, format_percent

_LEFT, _RIGHT, _TOP, _BOTTOM = 56, 18, 14, 44
_BAR_WIDTH = 1150.0  # of a bar chart, at least
_MAX_POINTS = 150  # of one line: more are averaged in bins, they would fall on the same pixels


@dataclass(frozen=True)
class Line:
    """One entry of a line chart: a thick line for ``main`` (the mean) and a thin one for each of ``seeds``.

    Attributes:
        dash: an SVG dash pattern, "" for a solid line.
    """

    label: str
    color: str
    main: Curve
    seeds: tuple[Curve, ...] = ()
    dash: str = ""


@dataclass(frozen=True)
class Bars:
    """One entry of a bar chart: a value per class, None where there is none. Values are fractions."""

    label: str
    color: str
    values: dict[str, Stat | None]


@dataclass(frozen=True)
class Dots:
    """One row of a dot chart: the value of each seed, and their mean with its spread. All are fractions."""

    label: str
    color: str
    values: tuple[float, ...]
    stat: Stat


@dataclass(frozen=True)
class _Scale:
    """Maps data in [low, high] to pixels in [start, end]."""

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        return self.start + (value - self.low) / (self.high - self.low) * (self.end - self.start)


def mean_curve(curves: Sequence[Curve]) -> Curve:
    """Mean over the steps that all ``curves`` have: no step shows the mean of fewer seeds than others."""
    steps = curves[0].steps
    for curve in curves[1:]:
        steps = np.intersect1d(steps, curve.steps)
    if len(steps) == 0:
        return Curve(steps, np.empty(0))
    return Curve(steps, np.mean([c.values[np.searchsorted(c.steps, steps)] for c in curves], axis=0))


def thin(curve: Curve, limit: int = _MAX_POINTS) -> Curve:
    """The curve itself, or, if it has more than ``limit`` points, the means of ``limit`` consecutive bins."""
    if len(curve.steps) <= limit:
        return curve
    steps = [round(float(part.mean())) for part in np.array_split(curve.steps, limit)]
    return Curve(np.array(steps), np.array([part.mean() for part in np.array_split(curve.values, limit)]))


def nice_ticks(low: float, high: float, count: int = 5) -> list[float]:
    """About ``count`` multiples of 1, 2 or 5 times a power of ten, the outer two around [low, high]."""
    if not high > low:
        margin = abs(low) / 2 or 0.5
        low, high = low - margin, high + margin
    raw = (high - low) / count
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= raw * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [float(f"{i * step:.10g}") for i in range(first, last + 1)]


def line_chart(lines: Sequence[Line], *, name: str, percent: bool, width: int, height: int) -> Html | None:
    """Lines over steps, with a read-out under the pointer; None when there is no finite point to draw.

    Args:
        name: what the values are, for the y axis and for screen readers.
        percent: values are fractions, shown in percent.
    """
    lines = [Line(x.label, x.color, thin(x.main), tuple(thin(c) for c in x.seeds), x.dash) for x in lines]
    curves = [curve for line in lines for curve in (line.main, *line.seeds)]
    values = np.concatenate([curve.values for curve in curves]) if curves else np.empty(0)
    values = values[np.isfinite(values)]
    if len(values) == 0:
        return None
    steps = np.concatenate([curve.steps for curve in curves])
    first, last = int(steps.min()), int(steps.max())
    x_ticks = [
        tick for tick in nice_ticks(first, last, max(3, width // 90)) if first <= tick <= last and tick == int(tick)
    ]
    y_ticks = nice_ticks(float(values.min()), float(values.max()), max(3, height // 50))
    if percent:  # a fraction's axis does not leave [0, 1] for roundness
        y_ticks = [tick for tick in y_ticks if 0 <= tick <= 1]
    x = _Scale(first, max(last, first + 1), _LEFT, width - _RIGHT)
    y = _Scale(min([*y_ticks, values.min()]), max([*y_ticks, values.max()]), height - _BOTTOM, _TOP)
    readout = [
        [line.label, line.color, line.main.steps.tolist(), [_json_number(v) for v in line.main.values]]
        for line in lines
    ]
    return el(
        "svg",
        _y_axis(y, y_ticks, name, percent, width, height),
        _x_axis(x, x_ticks, height),
        el("line", class_="cursor", x1=0, x2=0, y1=_TOP, y2=height - _BOTTOM, visibility="hidden"),
        [_polylines(curve, line, x, y, thick=False) for line in lines for curve in line.seeds],
        [_polylines(line.main, line, x, y, thick=True) for line in lines],
        **_frame(width, height, f"{name} over training steps"),
        data_lines=json.dumps(readout, separators=(",", ":"), allow_nan=False),
        data_scale=json.dumps([x.low, x.high, x.start, x.end]),
        data_percent=percent,
    )


def _frame(width: float, height: float, label: str) -> dict[str, str]:
    """Attributes of a chart that scales with its place, within limits that keep its text legible."""
    smallest = width if width > _BAR_WIDTH else 0.75 * width  # what scrolls anyway need not shrink too
    limits = f"min-width:{smallest:.0f}px;max-width:{1.2 * width:.0f}px"
    return {"viewBox": f"0 0 {width:.0f} {height:.0f}", "role": "img", "aria_label": label, "style": limits}


def _json_number(value: float) -> float | None:
    return float(f"{value:.5g}") if math.isfinite(value) else None


def _polylines(curve: Curve, line: Line, x: _Scale, y: _Scale, *, thick: bool) -> Html:
    """One path, broken where a value is not finite; a lone point becomes a dot."""
    pieces: list[list[str]] = [[]]
    for step, value in zip(curve.steps, curve.values):
        if math.isfinite(value):
            pieces[-1].append(f"{x(step):.1f},{y(value):.1f}")
        elif pieces[-1]:
            pieces.append([])
    # A round cap makes a path of no length a dot.
    path = "".join(f"M{p[0]}h0" if len(p) == 1 else "M" + "L".join(p) for p in pieces if p)
    if not path:
        return Html("")
    return el(
        "path",
        d=path,
        class_="mean" if thick else "seed",
        style=f"stroke:{line.color}",
        stroke_dasharray=line.dash or None,
    )


def _y_axis(y: _Scale, ticks: Sequence[float], name: str, percent: bool, width: float, height: float) -> Html:
    labels = _tick_labels([100 * tick for tick in ticks] if percent else ticks)
    middle = (height - _BOTTOM + _TOP) / 2
    return join(
        [
            [
                el("line", class_="grid", x1=_LEFT, x2=width - _RIGHT, y1=y(tick), y2=y(tick)),
                el("text", label, class_="axis", x=_LEFT - 8, y=y(tick) + 4, text_anchor="end"),
            ]
            for tick, label in zip(ticks, labels)
        ]
        + [
            el(
                "text",
                f"{name} (%)" if percent else name,
                class_="axis",
                text_anchor="middle",
                transform=f"translate(13 {middle:g}) rotate(-90)",
            )
        ]
    )


def _x_axis(x: _Scale, ticks: Sequence[float], height: float) -> Html:
    marks = [
        [
            el("line", class_="tick", x1=x(tick), x2=x(tick), y1=height - _BOTTOM, y2=height - _BOTTOM + 5),
            el("text", _short(tick), class_="axis", x=x(tick), y=height - _BOTTOM + 19, text_anchor="middle"),
        ]
        for tick in ticks
    ]
    base = el("line", class_="tick", x1=x.start, x2=x.end, y1=height - _BOTTOM, y2=height - _BOTTOM)
    title = el("text", "step", class_="axis", x=(x.start + x.end) / 2, y=height - 6, text_anchor="middle")
    return join([base, *marks, title])


def _tick_labels(ticks: Sequence[float]) -> list[str]:
    """All with the number of decimals that tells neighbors apart."""
    step = min((b - a for a, b in pairwise(ticks)), default=1.0)
    decimals = max(0, math.ceil(-math.log10(step) - 1e-6))
    return [f"{tick:.{decimals}f}" for tick in ticks]


def _short(step: float) -> str:
    """12000 as "12k"."""
    if step < 10_000:
        return f"{step:g}"
    return f"{step / 1e6:g}M" if step >= 1e6 else f"{step / 1e3:g}k"


def bar_chart(classes: Sequence[str], entries: Sequence[Bars], *, name: str, height: int = 320) -> Html | None:
    """Bars of fractions, grouped by class, with their spread. None when there is no value."""
    values = [stat.mean for entry in entries for stat in entry.values.values() if stat]
    if not values:
        return None
    bar = min(26.0, max(5.0, 0.8 * _BAR_WIDTH / (len(classes) * (len(entries) + 1))))
    slot = max(bar * len(entries) + max(8.0, bar), 24.0)
    width = max(_BAR_WIDTH, _LEFT + _RIGHT + slot * len(classes))
    slot = (width - _LEFT - _RIGHT) / len(classes)
    slanted = max(len(c) for c in classes) * 6.5 > slot
    bottom = 84 if slanted else 30
    height += bottom - _BOTTOM
    ticks = nice_ticks(0, max(values))
    y = _Scale(0, max(ticks[-1], max(values)), height - bottom, _TOP)
    parts: list[Html] = [_y_axis(y, ticks, name, True, width, height)]
    for i, class_name in enumerate(classes):
        center = _LEFT + (i + 0.5) * slot
        left = center - bar * len(entries) / 2
        for j, entry in enumerate(entries):
            stat = entry.values.get(class_name)
            if stat:
                parts.append(_bar(stat, entry, class_name, left + j * bar, bar, y))
        place = f"translate({center:.1f} {height - bottom + 16:g})" + (" rotate(-40)" if slanted else "")
        shown = class_name if len(class_name) <= 16 or not slanted else class_name[:15] + "…"
        parts.append(el("text", shown, class_="axis", transform=place, text_anchor="end" if slanted else "middle"))
    return el("svg", parts, **_frame(width, height, f"{name} by class"))


def _bar(stat: Stat, entry: Bars, class_name: str, left: float, width: float, y: _Scale) -> Html:
    top = y(stat.mean)
    whisker = None
    if stat.std is not None:
        middle, up, down = left + width / 2, y(stat.mean + stat.std), y(max(0.0, stat.mean - stat.std))
        whisker = el("line", class_="whisker", x1=middle, x2=middle, y1=up, y2=down)
    return el(
        "g",
        el("title", f"{class_name}, {entry.label}: {format_percent(stat)}"),
        el("rect", x=left + 0.5, y=top, width=width - 1, height=y(0) - top, rx=1, style=f"fill:{entry.color}"),
        whisker,
    )


def dot_chart(rows: Sequence[Dots], *, name: str, reference: float | None = None, width: int = 440) -> Html | None:
    """One row per entry: a dot per seed, an upright bar at the mean and a line for its spread.

    Args:
        name: what the values are.
        reference: where to draw a vertical line, such as the baseline's mean.
    """
    if not rows:
        return None
    row_height, label_width = 34, min(190, 24 + 7 * max(len(row.label) for row in rows))
    height = _TOP + row_height * len(rows) + _BOTTOM
    edges = [edge for row in rows for edge in (*row.values, *_spread(row.stat))]
    ticks = nice_ticks(min(edges), max(edges), 4)
    x = _Scale(min(ticks[0], *edges), max(ticks[-1], *edges), label_width, width - 100)
    labels = _tick_labels([100 * tick for tick in ticks])
    floor = height - _BOTTOM
    parts: list[object] = [
        [
            el("line", class_="grid", x1=x(tick), x2=x(tick), y1=_TOP, y2=floor),
            el("text", label, class_="axis", x=x(tick), y=floor + 18, text_anchor="middle"),
        ]
        for tick, label in zip(ticks, labels)
    ]
    if reference is not None:
        parts.append(el("line", class_="reference", x1=x(reference), x2=x(reference), y1=_TOP, y2=floor))
    for i, row in enumerate(rows):
        middle = _TOP + (i + 0.5) * row_height
        low, high = _spread(row.stat)
        fill = f"fill:{row.color}"
        stroke = f"stroke:{row.color}"
        parts += [
            el("text", row.label, class_="axis strong", x=label_width - 14, y=middle + 4, text_anchor="end"),
            el("line", class_="spread", x1=x(low), x2=x(high), y1=middle, y2=middle, style=stroke),
            [el("circle", class_="seed", cx=x(value), cy=middle, r=4.5, style=fill) for value in row.values],
            el(
                "line",
                class_="center",
                x1=x(row.stat.mean),
                x2=x(row.stat.mean),
                y1=middle - 9,
                y2=middle + 9,
                style=stroke,
            ),
            el(
                "text",
                format_percent(row.stat),
                class_="axis strong",
                x=width - 4,
                y=middle + 4,
                text_anchor="end",
            ),
        ]
    parts.append(el("text", f"{name} (%)", class_="axis", x=(x.start + x.end) / 2, y=height - 6, text_anchor="middle"))
    return el("svg", parts, **_frame(width, height, f"{name} by method and seed"))


def _spread(stat: Stat) -> tuple[float, float]:
    return stat.mean - (stat.std or 0.0), stat.mean + (stat.std or 0.0)
