"""Bars of fractions, grouped by class."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from xml.etree.ElementTree import Element

from markupsafe import Markup

from semiseg.dashboard.compare.stats import Stat
from semiseg.dashboard.html.charts.axes import BOTTOM, LEFT, RIGHT, TOP, Scale, nice_ticks, y_axis
from semiseg.dashboard.html.charts.svg import add, frame, markup
from semiseg.dashboard.text.formats import format_percent

_WIDTH = 1150.0  # at least; more classes make the chart wider


@dataclass(frozen=True)
class Bars:
    """One entry of a bar chart: a value per class, or None. Values are fractions."""

    label: str
    color: str
    values: dict[str, Stat | None]


def bar_chart(classes: Sequence[str], entries: Sequence[Bars], *, name: str, height: int = 320) -> Markup | None:
    """Bars of fractions, grouped by class, with their spread. None if there is no value."""
    values = [stat.mean for entry in entries for stat in entry.values.values() if stat]
    if not values:
        return None
    bar = min(26.0, max(5.0, 0.8 * _WIDTH / (len(classes) * (len(entries) + 1))))
    slot = max(bar * len(entries) + max(8.0, bar), 24.0)
    width = max(_WIDTH, LEFT + RIGHT + slot * len(classes))
    slot = (width - LEFT - RIGHT) / len(classes)
    slanted = max(len(c) for c in classes) * 6.5 > slot
    bottom = 84 if slanted else 30
    height += bottom - BOTTOM
    ticks = nice_ticks(0, max(values))
    y = Scale(0, max(ticks[-1], max(values)), height - bottom, TOP)
    chart = frame(width, height, f"{name} by class", shrink=1.0 if width > _WIDTH else 0.75)
    y_axis(chart, y, ticks, name, percent=True, width=width)
    for i, class_name in enumerate(classes):
        center = LEFT + (i + 0.5) * slot
        left = center - bar * len(entries) / 2
        for j, entry in enumerate(entries):
            if stat := entry.values.get(class_name):
                _bar(chart, stat, entry, class_name, left + j * bar, bar, y)
        place = f"translate({center:.1f} {height - bottom + 16:g})" + (" rotate(-40)" if slanted else "")
        shown = class_name if len(class_name) <= 16 or not slanted else class_name[:15] + "…"
        add(chart, "text", shown, class_="axis", transform=place, text_anchor="end" if slanted else "middle")
    return markup(chart)


def _bar(chart: Element, stat: Stat, entry: Bars, class_name: str, left: float, width: float, y: Scale) -> None:
    group = add(chart, "g")
    add(group, "title", f"{class_name}, {entry.label}: {format_percent(stat)}")
    top, fill = y(stat.mean), f"fill:{entry.color}"
    add(group, "rect", x=left + 0.5, y=top, width=width - 1, height=y(0) - top, rx=1, style=fill)
    if stat.std is not None:
        middle, up, down = left + width / 2, y(stat.mean + stat.std), y(max(0.0, stat.mean - stat.std))
        add(group, "line", class_="whisker", x1=middle, x2=middle, y1=up, y2=down)
