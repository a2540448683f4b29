"""How everything here is timed: the works take turns, so that a slow moment hits all alike."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

import torch

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


def best_of(works: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Best seconds of each work, by the clock on the wall."""
    return {name: min(seconds) for name, seconds in in_turns(works, rounds, timed).items()}


def in_turns(
    works: Mapping[str, Callable[[], object]], rounds: int, clock: Callable[[Callable[[], object]], float] | None = None
) -> dict[str, list[float]]:
    """Seconds of each work in every round; one more round ahead of them warms up.

    Args:
        works: take turns.
        rounds: that count.
        clock: work -> seconds; None: ``computed``.
    """
    seconds: dict[str, list[float]] = {name: [] for name in works}
    for number in range(rounds + 1):
        for name, work in works.items():
            took = (clock or computed)(work)
            if number:
                seconds[name].append(took)
    return seconds


def computed(work: Callable[[], object]) -> float:
    """Seconds of the processor, which other programs do not add to; on a GPU those of the clock on the wall."""
    if DEVICE.type == "cuda":
        return timed(work)
    start = time.process_time()
    work()
    return time.process_time() - start


def timed(work: Callable[[], object]) -> float:
    """Seconds until the device is done with it, by the clock on the wall."""
    start = time.perf_counter()
    work()
    if DEVICE.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start
