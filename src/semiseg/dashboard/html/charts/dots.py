"""Dots over seeds: one row per method."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from xml.etree.ElementTree import Element

from markupsafe import Markup

from semiseg.dashboard.compare.stats import Stat
from semiseg.dashboard.html.charts.axes import BOTTOM, TOP, Scale, nice_ticks, tick_labels
from semiseg.dashboard.html.charts.svg import add, frame, markup
from semiseg.dashboard.text.formats import format_percent

_ROW = 34  # pixels
MAX_ROWS = 40


@dataclass(frozen=True)
class Dots:
    """One row of a dot chart: the value of each seed, and their mean with its spread. All are fractions."""

    label: str
    color: str
    values: tuple[float, ...]
    stat: Stat


def dot_chart(rows: Sequence[Dots], *, name: str, reference: float | None = None, width: int = 440) -> Markup | None:
    """One row per entry (the first `MAX_ROWS`): a dot per seed, a vertical bar at the mean, a line for the spread.

    Args:
        name: what the values are.
        reference: position of a vertical line, such as the baseline's mean.
    """
    rows = rows[:MAX_ROWS]
    if not rows:
        return None
    label_width = min(190, 24 + 7 * max(len(_short(row.label)) for row in rows))
    height = TOP + _ROW * len(rows) + BOTTOM
    edges = [edge for row in rows for edge in (*row.values, *_spread(row.stat))]
    ticks = nice_ticks(min(edges), max(edges), 4)
    x = Scale(min(ticks[0], *edges), max(ticks[-1], *edges), label_width, width - 100)
    floor = height - BOTTOM
    chart = frame(width, height, f"{name} by method and seed")
    for tick, label in zip(ticks, tick_labels([100 * tick for tick in ticks])):
        add(chart, "line", class_="grid", x1=x(tick), x2=x(tick), y1=TOP, y2=floor)
        add(chart, "text", label, class_="axis", x=x(tick), y=floor + 18, text_anchor="middle")
    if reference is not None:
        add(chart, "line", class_="reference", x1=x(reference), x2=x(reference), y1=TOP, y2=floor)
    for i, row in enumerate(rows):
        _row(chart, row, x, TOP + (i + 0.5) * _ROW, label_width - 14, width - 4)
    add(chart, "text", f"{name} (%)", class_="axis", x=(x.start + x.end) / 2, y=height - 6, text_anchor="middle")
    return markup(chart)


def _row(chart: Element, row: Dots, x: Scale, middle: float, left: float, right: float) -> None:
    low, high = _spread(row.stat)
    fill, stroke = f"fill:{row.color}", f"stroke:{row.color}"
    name = add(chart, "text", _short(row.label), class_="axis strong", x=left, y=middle + 4, text_anchor="end")
    add(name, "title", row.label)
    add(chart, "line", class_="spread", x1=x(low), x2=x(high), y1=middle, y2=middle, style=stroke)
    for value in row.values:
        add(chart, "circle", class_="seed", cx=x(value), cy=middle, r=4.5, style=fill)
    at = x(row.stat.mean)
    add(chart, "line", class_="center", x1=at, x2=at, y1=middle - 9, y2=middle + 9, style=stroke)
    add(chart, "text", format_percent(row.stat), class_="axis strong", x=right, y=middle + 4, text_anchor="end")


def _short(label: str) -> str:
    return label if len(label) <= 24 else label[:23] + "…"


def _spread(stat: Stat) -> tuple[float, float]:
    return stat.mean - (stat.std or 0.0), stat.mean + (stat.std or 0.0)
