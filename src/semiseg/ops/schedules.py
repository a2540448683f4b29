"""Schedules: plain functions of the optimizer step."""

from __future__ import annotations

import math
from dataclasses import dataclass


def poly(
    step: int, total: int, *, power: float = 0.9, offset: int = 0, warmup_steps: int = 0, floor: float = 0.0
) -> float:
    """Factor of the learning rate for the optimizer step with index ``step`` (from 0).

    (1 - floor) * (1 - t/T)^power + floor, and a warm-up.

    Args:
        total: T, the number of steps of the run.
        offset: 1 reproduces the UniMatch family, which sets the rate after the step: steps 0 and 1 both use the
            full rate and step i the value of i - 1.
        warmup_steps: linear rise to the poly value over this many steps.
        floor: what is left of the rate at the end, in [0, 1] (mmcv: min_lr / lr).
    """
    fraction = min(max(step - offset, 0) / total, 1.0)
    warmup = min(1.0, (step + 1) / warmup_steps) if warmup_steps > 0 else 1.0
    return warmup * ((1.0 - floor) * (1.0 - fraction) ** power + floor)


@dataclass(frozen=True)
class ConstantDecay:
    """EMA decay that never changes (French et al. 2020: 0.99 from the first step)."""

    decay: float = 0.99

    def __post_init__(self) -> None:
        _check_decay(self.decay, "decay")

    def __call__(self, update: int) -> float:
        """Decay of the update with index ``update`` (from 0)."""
        return self.decay


@dataclass(frozen=True)
class WarmupDecay:
    """min(1 - 1/(i+1), max_decay): a copy first, then the mean of all snapshots, then an exponential average.

    Source: Tarvainen & Valpola 2017, as in the UniMatch V2 and AugSeg code.
    """

    max_decay: float = 0.996

    def __post_init__(self) -> None:
        _check_decay(self.max_decay, "max_decay")

    def __call__(self, update: int) -> float:
        """Decay of the update with index ``update`` (from 0)."""
        return min(1.0 - 1.0 / (update + 1), self.max_decay)


@dataclass(frozen=True)
class CopyThenWarmup:
    """A copy until update ``copies``, then min(1 - 1/(k+1), max_decay) with k counted from update ``start``.

    Source: U2PL's code: k = 0 is the first semi-supervised step, and its whole first epoch still copies.
    """

    start: int
    copies: int
    max_decay: float = 0.99

    def __post_init__(self) -> None:
        _check_decay(self.max_decay, "max_decay")

    def __call__(self, update: int) -> float:
        """Decay of the update with index ``update`` (from 0)."""
        return 0.0 if update < self.copies else min(1.0 - 1.0 / (update - self.start + 1), self.max_decay)


@dataclass(frozen=True)
class CosineDecay:
    """From ``start`` to ``end`` along half a cosine over ``steps`` updates (Grill et al. 2020, BYOL)."""

    steps: int
    start: float = 0.99
    end: float = 1.0

    def __post_init__(self) -> None:
        _check_decay(self.start, "start")
        _check_decay(self.end, "end")
        if self.steps < 1:
            raise ValueError(f"CosineDecay: steps={self.steps} must be at least 1")

    def __call__(self, update: int) -> float:
        """Decay of the update with index ``update`` (from 0)."""
        t = min(update / self.steps, 1.0)
        return self.end - (self.end - self.start) * (math.cos(math.pi * t) + 1.0) / 2.0


def _check_decay(value: float, name: str) -> None:
    if not 0.0 <= value <= 1.0:
        raise ValueError(f"EMA {name}={value} must lie in [0, 1] (key: method.ema.decay.{name})")
