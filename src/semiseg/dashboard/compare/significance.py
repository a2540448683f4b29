"""Significance of the difference between two methods, from the few seeds that both were run with."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from scipy.special import stdtr, stdtrit

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Comparison:
    """A mean difference of ``n`` pairs.

    Attributes:
        mean: of the differences.
        n: number of pairs.
        low, high: ends of the 95 % interval of Student's t with n - 1 degrees of freedom; None for one pair.
        p: two-sided p-value of the paired t-test; None for one pair, or if all differences are equal.
    """

    mean: float
    n: int
    low: float | None
    high: float | None
    p: float | None


def compare(differences: Sequence[float]) -> Comparison | None:
    """The paired t interval and test; None without a pair.

    The differences are assumed to be normal. Two pairs have one degree of freedom: the interval then extends 12.7
    standard errors to each side, so two seeds can only confirm a very consistent gain.
    """
    n = len(differences)
    if n == 0:
        return None
    mean = statistics.fmean(differences)
    if n == 1:
        return Comparison(mean, 1, None, None, None)
    error = statistics.stdev(differences) / math.sqrt(n)
    reach = float(stdtrit(n - 1, 0.5 + CONFIDENCE / 2)) * error
    p = 2 * float(stdtr(n - 1, -abs(mean) / error)) if error > 1e-9 else None  # otherwise they differ only by rounding
    return Comparison(mean, n, mean - reach, mean + reach, p)
