"""Learning curves as text."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from semiseg.dashboard.compare.forecast import CONFIDENCE, FARTHEST, LearningCurve

GAINS = (1, 2, 5, 10)
"""Gains in points of mIoU for which the required labels are listed."""


def describe(curve: LearningCurve, points: Sequence[tuple[int, float]]) -> str:
    """The results so far, the curve, its extrapolation, and the labels required for certain gains."""
    lines = ["  labels    runs   mIoU"]
    for n in sorted({n for n, _ in points}):
        scores = [100 * miou for count, miou in points if count == n]
        spread = f" ± {statistics.stdev(scores):.1f}" if len(scores) > 1 else ""
        lines.append(f"{n:8}  {len(scores):6}   {statistics.fmean(scores):.1f}{spread}")
    if curve.exponent <= 0:
        return "\n".join([*lines, "no forecast: the error did not decrease with more labels; try more seeds"])
    law = f"curve: 100 - mIoU = {100 * curve.scale:.3g} x labels^-{curve.exponent:.3g}"
    no_interval = "; no interval: that takes at least three runs"
    told = f"; with the {100 * CONFIDENCE:.0f} % prediction interval of a single run"
    lines.append(law + (no_interval if curve.spread is None else told))
    lines.append("  labels    more   mIoU")
    for factor in (1, 1.5, 2, 3, FARTHEST):
        n = round(factor * curve.most)
        lines.append(f"{n:8}  {n - curve.most:6}   {100 * curve.miou(n):.1f}{_between(curve.interval(n))}")
    now = curve.miou(curve.most)
    for gain in GAINS:
        if now + gain / 100 < 1:
            lines.append(f"  +{gain} point{'s' if gain > 1 else ''}: {_more(curve, now + gain / 100)}")
    return "\n".join(lines)


def _between(interval: tuple[float, float] | None) -> str:
    return "" if interval is None else f"   {100 * interval[0]:.1f} to {100 * interval[1]:.1f}"


def _more(curve: LearningCurve, miou: float) -> str:
    """The number of additional labels, with its interval."""
    beyond = f"more than {(FARTHEST - 1) * curve.most}"
    fewest, middle, most = (None if n is None else max(0, round(n - curve.most)) for n in curve.labels_for(miou))
    about = f"{beyond} more labels" if middle is None else f"about {middle} more labels"
    if curve.spread is None:
        return about
    return f"{about} ({beyond if fewest is None else fewest} to {beyond if most is None else most})"
