"""A learning curve as a stand-alone SVG file."""

from __future__ import annotations

from collections.abc import Sequence
from xml.etree.ElementTree import tostring

import numpy as np

from semiseg.dashboard.compare.forecast import FARTHEST, LearningCurve
from semiseg.dashboard.html.charts.axes import BOTTOM, LEFT, RIGHT, TOP, Scale, nice_ticks, short, x_axis, y_axis
from semiseg.dashboard.html.charts.svg import add, frame

WIDTH, HEIGHT = 640, 360
STYLE = """text { font: 12px system-ui, sans-serif; fill: #444 } .grid { stroke: #e3e5e8 } .tick { stroke: #888 }
.band { fill: #0072b2; opacity: 0.15 } .curve { fill: none; stroke: #0072b2; stroke-width: 2 }
.ahead { stroke-dasharray: 5 4 } .run { fill: #d55e00 }"""


def learning_chart(curve: LearningCurve, points: Sequence[tuple[int, float]], title: str) -> str:
    """Draw runs as dots, the curve (dashed where extrapolated), and its interval as a band.

    Args:
        curve: fitted to ``points``.
        points: labeled images and mIoU in [0, 1] of each run.
        title: shown above the chart.
    """
    counts = np.geomspace(min(n for n, _ in points), FARTHEST * curve.most, 80)
    mean = [curve.miou(n) for n in counts]
    band = [curve.interval(n) or (m, m) for n, m in zip(counts, mean)]
    shown = [max(0.0, min(1.0, v)) for v in [*mean, *(v for pair in band for v in pair), *(m for _, m in points)]]
    ticks = nice_ticks(min(shown), max(shown))
    y = Scale(ticks[0], ticks[-1], HEIGHT - BOTTOM, TOP + 18)
    x = Scale(float(np.log(counts[0])), float(np.log(counts[-1])), LEFT, WIDTH - RIGHT)

    def place(n: float, miou: float) -> str:
        return f"{x(float(np.log(n))):.1f},{y(max(y.low, min(y.high, miou))):.1f}"

    chart = frame(WIDTH, HEIGHT, title)
    chart.set("xmlns", "http://www.w3.org/2000/svg")
    add(chart, "style", STYLE)
    add(chart, "text", title, x=LEFT, y=TOP + 2)
    y_axis(chart, y, ticks, "mIoU", percent=True, width=WIDTH)
    marks = sorted({n for n, _ in points} | {2 * curve.most, FARTHEST * curve.most})
    x_axis(chart, x, [float(np.log(n)) for n in marks], [short(n) for n in marks], "labeled images", HEIGHT)
    outline = [place(n, low) for n, (low, _) in zip(counts, band)]
    outline += [place(n, high) for n, (_, high) in reversed(list(zip(counts, band)))]
    add(chart, "polygon", class_="band", points=" ".join(outline))
    there = counts <= curve.most
    for part, kind in ((there, "curve"), (~there, "curve ahead")):
        line = [place(n, m) for n, m, in_part in zip(counts, mean, part) if in_part]
        add(chart, "polyline", class_=kind, points=" ".join(line))
    for n, miou in points:
        cx, cy = place(n, miou).split(",")
        add(chart, "circle", class_="run", cx=cx, cy=cy, r=4)
    return tostring(chart, encoding="unicode") + "\n"
