"""Calibration of a network's confidence, and the pseudo-label threshold that it suggests."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from semiseg.dashboard.read.diagnostics import Diagnostics

N_BINS = 20
TARGET_PRECISION = 0.95
LEAST_COVERAGE = 0.02  # a threshold that keeps less is not suggested


class Bin(NamedTuple):
    """Pixels with confidence in [low, high): their share of all pixels, mean confidence, and accuracy."""

    low: float
    high: float
    share: float
    confidence: float
    accuracy: float


class Threshold(NamedTuple):
    """Pixels with at least this confidence: the share of correct ones among them, and their share of all pixels."""

    threshold: float
    precision: float
    coverage: float


def reliability(found: Diagnostics, n_bins: int = N_BINS) -> list[Bin]:
    """The non-empty bins, of equal width.

    The confidence of a pixel is the probability of its most probable class.
    """
    edges = np.linspace(0, len(found.counts), n_bins + 1).round().astype(int)
    total = max(1, int(found.counts.sum()))
    bins = []
    for start, end in zip(edges[:-1].tolist(), edges[1:].tolist()):
        pixels = int(found.counts[start:end].sum())
        if pixels:
            confidence = float(found.confidence[start:end].sum()) / pixels
            accuracy = int(found.correct[start:end].sum()) / pixels
            n = len(found.counts)
            bins.append(Bin(start / n, end / n, pixels / total, confidence, accuracy))
    return bins


def calibration_error(bins: Sequence[Bin]) -> float:
    """Expected calibration error: mean distance of confidence and accuracy, weighted by pixels (Guo et al. 2017)."""
    return sum(b.share * abs(b.confidence - b.accuracy) for b in bins)


def thresholds(found: Diagnostics) -> list[Threshold]:
    """Precision and coverage at the lower edge of every bin, ascending, as long as pixels remain."""
    total = int(found.counts.sum())
    kept, right = found.counts[::-1].cumsum()[::-1], found.correct[::-1].cumsum()[::-1]
    n = len(found.counts)
    return [Threshold(i / n, int(right[i]) / int(kept[i]), int(kept[i]) / total) for i in range(n) if kept[i]]


def propose(rows: Sequence[Threshold], target: float = TARGET_PRECISION) -> Threshold | None:
    """The lowest threshold that reaches the target precision, or else the most precise one. None without rows."""
    usable = [row for row in rows if row.coverage >= LEAST_COVERAGE]
    reached = [row for row in usable if row.precision >= target]
    return reached[0] if reached else max(usable, key=lambda row: row.precision, default=None)
