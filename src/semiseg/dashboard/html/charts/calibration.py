"""Reliability diagram, and precision and coverage of pseudo-labels over the threshold."""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup

from semiseg.dashboard.compare.calibration import Bin, Threshold
from semiseg.dashboard.html.charts.axes import BOTTOM, LEFT, RIGHT, TOP, Scale, tick_labels, x_axis, y_axis
from semiseg.dashboard.html.charts.svg import add, frame, markup

_TICKS = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
PRECISION_COLOR, COVERAGE_COLOR = "var(--m3)", "var(--m1)"


def reliability_chart(bins: Sequence[Bin], *, width: int = 440, height: int = 340) -> Markup:
    """Accuracy by confidence bin; on the diagonal, the confidence is calibrated."""
    x = Scale(0, 1, LEFT, width - RIGHT)
    y = Scale(0, 1, height - BOTTOM, TOP)
    chart = frame(width, height, "accuracy by confidence")
    y_axis(chart, y, _TICKS, "correct pixels", percent=True, width=width)
    for b in bins:
        group = add(chart, "g")
        low, high = 100 * b.low, 100 * b.high
        title = f"confidence {low:.0f}–{high:.0f} %: {100 * b.accuracy:.1f} % correct, {100 * b.share:.1f} % of pixels"
        add(group, "title", title)
        left, right, top = x(b.low), x(b.high), y(b.accuracy)
        opacity = f"fill:var(--m1);fill-opacity:{0.25 + 0.75 * min(1.0, 3 * b.share):.2f}"
        add(group, "rect", x=left + 0.5, y=top, width=right - left - 1, height=y(0) - top, style=opacity)
    add(chart, "line", class_="reference", x1=x(0), x2=x(1), y1=y(0), y2=y(1))
    x_axis(chart, x, _TICKS, tick_labels([100 * tick for tick in _TICKS]), "confidence (%)", height)
    return markup(chart)


def threshold_chart(
    rows: Sequence[Threshold], proposed: Threshold | None, *, width: int = 440, height: int = 340
) -> Markup | None:
    """Precision and coverage of the pixels at or above each threshold. None without rows."""
    if not rows:
        return None
    shown = [row for row in rows if row.threshold >= 0.3] or list(rows)
    x = Scale(shown[0].threshold, max(1.0, shown[0].threshold + 0.01), LEFT, width - RIGHT)
    y = Scale(0, 1, height - BOTTOM, TOP)
    ticks = [tick / 10 for tick in range(11) if tick / 10 >= shown[0].threshold]
    chart = frame(width, height, "precision and coverage by threshold")
    y_axis(chart, y, _TICKS, "pixels", percent=True, width=width)
    if proposed:
        at = x(proposed.threshold)
        add(chart, "line", class_="reference", x1=at, x2=at, y1=TOP, y2=height - BOTTOM)
        anchor = "end" if at > (x.start + x.end) / 2 else "start"
        place = at - 6 if anchor == "end" else at + 6
        add(chart, "text", f"{proposed.threshold:g}", class_="axis strong", x=place, y=y(0) - 8, text_anchor=anchor)
    for color, values in (
        (PRECISION_COLOR, [row.precision for row in shown]),
        (COVERAGE_COLOR, [row.coverage for row in shown]),
    ):
        path = "L".join(f"{x(row.threshold):.1f},{y(value):.1f}" for row, value in zip(shown, values))
        add(chart, "path", d=f"M{path}" if len(shown) > 1 else f"M{path}h0", class_="mean", style=f"stroke:{color}")
    x_axis(chart, x, ticks, [f"{tick:g}" for tick in ticks], "confidence threshold", height)
    return markup(chart)
