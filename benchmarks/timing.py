"""How everything here is timed: the works take turns, the best time of each counts."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

import torch

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


def best_of(works: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Best seconds of each work. They take turns, so that a slow moment hits all alike; the first round warms up."""
    best = dict.fromkeys(works, float("inf"))
    for number in range(rounds + 1):
        for name, work in works.items():
            seconds = timed(work)
            if number:
                best[name] = min(best[name], seconds)
    return best


def timed(work: Callable[[], object]) -> float:
    """Seconds until the device is done with it."""
    start = time.perf_counter()
    work()
    if DEVICE.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start
