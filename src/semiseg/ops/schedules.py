"""Schedules as plain functions of the optimizer step."""

from __future__ import annotations

import math
from dataclasses import dataclass

from semiseg.arguments import checked
from semiseg.ops.ranges import Count, Index, Share, ShareBelowOne


def poly(
    step: int, total: int, *, power: float = 0.9, offset: int = 0, warmup_steps: int = 0, floor: float = 0.0
) -> float:
    """Learning rate factor for the optimizer step with index ``step`` (from 0).

    (1 - floor) * (1 - t/T)^power + floor, with an optional warm-up.

    Args:
        total: T, the number of steps of the run.
        offset: 1 reproduces the UniMatch family, which sets the rate after the step: steps 0 and 1 both use the
            full rate, and step i the value of i - 1.
        warmup_steps: linear rise to the poly value over this many steps.
        floor: factor at the end of the run, in [0, 1] (mmcv: min_lr / lr).
    """
    fraction = min(max(step - offset, 0) / total, 1.0)
    warmup = min(1.0, (step + 1) / warmup_steps) if warmup_steps > 0 else 1.0
    value: float = warmup * ((1.0 - floor) * (1.0 - fraction) ** power + floor)
    return value


def half_cosine(t: float) -> float:
    """Half-cosine ramp from 0 to 1, for ``t`` in [0, 1]."""
    return (1 - math.cos(math.pi * t)) / 2


@checked
@dataclass(frozen=True)
class ConstantDecay:
    """Constant EMA decay (French et al. 2020: 0.99 from the first step)."""

    decay: ShareBelowOne = 0.99

    def __call__(self, update: int) -> float:
        """Decay of the update with index ``update`` (from 0)."""
        return self.decay


@checked
@dataclass(frozen=True)
class WarmupDecay:
    """min(1 - 1/(i+1), max_decay): a copy first, then the mean of all snapshots, then an exponential average.

    Source: Tarvainen & Valpola 2017, as in the UniMatch V2 and AugSeg code.
    """

    max_decay: ShareBelowOne = 0.996

    def __call__(self, update: int) -> float:
        """Decay of the update with index ``update`` (from 0)."""
        return min(1.0 - 1.0 / (update + 1), self.max_decay)


@checked
@dataclass(frozen=True)
class CopyThenWarmup:
    """A copy until update ``copies``, then min(1 - 1/(k+1), max_decay) with k counted from update ``start``.

    ``waits``: the teacher is not updated until the update right before ``start``, which copies.

    Source: U2PL's code, where k = 0 is the first semi-supervised step, and the whole first epoch still copies.
    """

    start: Index
    copies: Index
    max_decay: ShareBelowOne = 0.99
    waits: bool = False

    def __call__(self, update: int) -> float:
        """Decay of the update with index ``update`` (from 0)."""
        if self.waits and update < self.start - 1:
            return 1.0
        return 0.0 if update < self.copies else min(1.0 - 1.0 / (update - self.start + 1), self.max_decay)


@checked
@dataclass(frozen=True)
class CosineDecay:
    """Half-cosine from ``start`` to ``end`` over ``steps`` updates (Grill et al. 2020, BYOL)."""

    steps: Count
    start: Share = 0.99
    end: Share = 1.0

    def __call__(self, update: int) -> float:
        """Decay of the update with index ``update`` (from 0)."""
        t = min(update / self.steps, 1.0)
        return self.end - (self.end - self.start) * (math.cos(math.pi * t) + 1.0) / 2.0
