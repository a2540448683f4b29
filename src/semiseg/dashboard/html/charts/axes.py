"""Scales, ticks and axes of charts.

Text and lines take their colors from the classes ``axis``, ``grid`` and ``tick`` in the page's style sheet.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from xml.etree.ElementTree import Element

from semiseg.dashboard.html.charts.svg import add

LEFT, RIGHT, TOP, BOTTOM = 56, 18, 14, 44
"""Margins in pixels."""


@dataclass(frozen=True)
class Scale:
    """Maps data in [low, high] to pixels in [start, end]."""

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        """The pixel position of a value."""
        return self.start + (value - self.low) / (self.high - self.low) * (self.end - self.start)


def nice_ticks(low: float, high: float, count: int = 5) -> list[float]:
    """About ``count`` multiples of 1, 2 or 5 times a power of ten that enclose [low, high]."""
    # Averages of a constant differ by rounding; ticks have ten digits and would be equal.
    if not high - low > 1e-8 * max(abs(low), abs(high)):
        margin = abs(low) / 2 or 0.5
        low, high = low - margin, high + margin
    raw = (high - low) / count
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= raw * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [float(f"{i * step:.10g}") for i in range(first, last + 1)]


def tick_labels(ticks: Sequence[float]) -> list[str]:
    """Labels with enough decimals to distinguish neighbors."""
    step = min((b - a for a, b in pairwise(ticks)), default=1.0)
    decimals = max(0, math.ceil(-math.log10(step) - 1e-6))
    return [f"{tick:.{decimals}f}" for tick in ticks]


def short(step: float) -> str:
    """Abbreviated step: 12000 as "12k"."""
    if step < 10_000:
        return f"{step:g}"
    return f"{step / 1e6:g}M" if step >= 1e6 else f"{step / 1e3:g}k"


def y_axis(chart: Element, y: Scale, ticks: Sequence[float], name: str, *, percent: bool, width: float) -> None:
    """Horizontal grid lines with their values, and the name of the axis."""
    for tick, label in zip(ticks, tick_labels([100 * tick for tick in ticks] if percent else ticks)):
        add(chart, "line", class_="grid", x1=LEFT, x2=width - RIGHT, y1=y(tick), y2=y(tick))
        add(chart, "text", label, class_="axis", x=LEFT - 8, y=y(tick) + 4, text_anchor="end")
    middle = (y.start + y.end) / 2
    add(
        chart,
        "text",
        f"{name} (%)" if percent else name,
        class_="axis",
        text_anchor="middle",
        transform=f"translate(13 {middle:g}) rotate(-90)",
    )


def x_axis(chart: Element, x: Scale, ticks: Sequence[float], labels: Sequence[str], name: str, height: float) -> None:
    """The base line with ticks, their values, and the name of the axis."""
    floor = height - BOTTOM
    add(chart, "line", class_="tick", x1=x.start, x2=x.end, y1=floor, y2=floor)
    for tick, label in zip(ticks, labels):
        add(chart, "line", class_="tick", x1=x(tick), x2=x(tick), y1=floor, y2=floor + 5)
        add(chart, "text", label, class_="axis", x=x(tick), y=floor + 19, text_anchor="middle")
    add(chart, "text", name, class_="axis", x=(x.start + x.end) / 2, y=height - 6, text_anchor="middle")
