"""Mean and spread over seeds."""

from __future__ import annotations

import statistics
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Stat:
    """Mean over ``n`` seeds and sample standard deviation (divisor n - 1); ``std`` is None for n = 1."""

    mean: float
    std: float | None
    n: int


def summarize(values: Iterable[float | None]) -> Stat | None:
    """Mean and sample standard deviation of the values that are not None; None if there are none."""
    present = [value for value in values if value is not None]
    if not present:
        return None
    std = statistics.stdev(present) if len(present) > 1 else None
    return Stat(statistics.fmean(present), std, len(present))
