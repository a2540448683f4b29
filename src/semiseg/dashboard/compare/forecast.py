"""Learning curves: how mIoU grows with the number of labeled images."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import brentq
from scipy.special import stdtrit

from semiseg.dashboard.read.run import Run
from semiseg.errors import InputError

CONFIDENCE = 0.9
KEEP = "; to keep them fixed while labels are added, list them in val.txt or put them into images/val"
FARTHEST = 4
"""Curves are extrapolated up to this multiple of the largest number of labels."""
SMALLEST = 1e-6
"""Lower bound for errors, so that their logarithm is finite."""


@dataclass(frozen=True)
class LearningCurve:
    """error = scale * labels ** -exponent, with error = 1 - mIoU; least squares on the logarithms of both.

    Errors of networks follow power laws in the number of training examples (Hestness et al. 2017). The irreducible
    error of that paper is left out, as it cannot be fitted to a few label counts; far out the curve is therefore too
    optimistic.

    Attributes:
        spread: residual standard deviation of log(error); None for two runs, which leave none.
        n: number of runs.
        center, width: mean of log(labels), and the sum of squared differences from it.
        most: the largest number of labels.
    """

    scale: float
    exponent: float
    spread: float | None
    n: int
    center: float
    width: float
    most: int

    def miou(self, labels: float) -> float:
        """MIoU of the curve, in [0, 1]."""
        return 1 - self.scale * labels**-self.exponent

    def interval(self, labels: float) -> tuple[float, float] | None:
        """Range of mIoU that contains the result of another run with probability `CONFIDENCE`; None for two runs.

        The prediction interval of a linear regression, with Student's t of n - 2 degrees of freedom. It covers both
        the scatter of single runs and the uncertainty of the curve.
        """
        if self.spread is None:
            return None
        variance = 1 + 1 / self.n + (math.log(labels) - self.center) ** 2 / self.width
        reach = float(stdtrit(self.n - 2, 0.5 + CONFIDENCE / 2)) * self.spread * math.sqrt(variance)
        error = 1 - self.miou(labels)
        return 1 - error * math.exp(reach), 1 - error * math.exp(-reach)

    def labels_for(self, miou: float) -> tuple[float | None, float | None, float | None]:
        """Numbers of labels at which the upper bound, the curve, and the lower bound reach a mIoU.

        None if that takes more than `FARTHEST` times the present labels, and for the bounds if there is no interval.
        """
        if self.spread is None:
            return None, self._reaches(self.miou, miou), None
        low, high = (lambda n: (self.interval(n) or (0.0, 0.0))[0], lambda n: (self.interval(n) or (0.0, 0.0))[1])
        return self._reaches(high, miou), self._reaches(self.miou, miou), self._reaches(low, miou)

    def _reaches(self, curve: Callable[[float], float], miou: float) -> float | None:
        """The smallest number of labels, from the present one up, at which a curve reaches a mIoU."""
        first, last = float(self.most), float(FARTHEST * self.most)
        if curve(first) >= miou:
            return first
        grid = np.geomspace(first, last, 200)
        above = next((k for k, n in enumerate(grid) if curve(n) >= miou), None)
        return None if above is None else float(brentq(lambda n: curve(n) - miou, grid[above - 1], grid[above]))


def fit(points: Iterable[tuple[int, float]]) -> LearningCurve:
    """Fit a power law.

    Args:
        points: labeled images and mIoU in [0, 1] of each run.

    Raises:
        ValueError: all runs have the same number of labels.
    """
    found = sorted(points)
    x = np.log([n for n, _ in found])
    y = np.log(np.maximum(1 - np.array([miou for _, miou in found]), SMALLEST))
    if not len(x) or x[0] == x[-1]:
        raise ValueError("expected runs at two or more numbers of labels")
    center = float(x.mean())
    width = float(((x - center) ** 2).sum())
    slope = float(((x - center) * (y - y.mean())).sum() / width)
    level = float(y.mean()) - slope * center
    left = float(((y - level - slope * x) ** 2).sum())
    spread = math.sqrt(left / (len(x) - 2)) if len(x) > 2 else None
    return LearningCurve(math.exp(level), -slope, spread, len(x), center, width, found[-1][0])


def comparable(runs: Sequence[Run]) -> list[Run]:
    """The complete runs.

    Raises:
        InputError: the runs differ in method, model or validation images, or all have the same number of labels.
    """
    done = [r for r in runs if r.status == "completed" and r.result and None not in point(r)]
    if not done:
        raise InputError(f"forecast: none of the {len(runs)} runs is complete")
    for what, of in (("methods", _method), ("models", _model), ("validation images", _validation)):
        if len(kinds := {of(r): r for r in done}) > 1:
            first, second = list(kinds.values())[:2]
            named = f": {of(first)} and {of(second)}" if of is not _validation else KEEP
            raise InputError(f"forecast: {first.folder} and {second.folder} have different {what}{named}")
    counts = {r.result.n_labeled for r in done if r.result}
    if len(counts) < 2:
        raise InputError(
            f"forecast: all {len(done)} runs have {next(iter(counts))} labeled images: train with fewer of them too, "
            "protocol.count=N"
        )
    return done


def point(run: Run) -> tuple[int | None, float | None]:
    """Labeled images of a complete run, and its mIoU after the last step, in [0, 1]."""
    return (run.result.n_labeled or None, run.result.miou_last) if run.result else (None, None)


def _method(run: Run) -> str:
    return run.method


def _model(run: Run) -> str:
    return run.model


def _validation(run: Run) -> str:
    return run.validation_id or run.data_id
