"""Which images a training step sees: a pure function of the seed, the step and the rank.

Nothing here keeps a position. Step ``s`` of a run has the same draws whether or not the run was resumed, and for any
number of workers.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterator
from enum import IntEnum
from typing import Literal, NamedTuple

import numpy as np
from torch.utils.data import Sampler

from semiseg.errors import InputError

# First word of every spawn key, so that list orders and samples never share random numbers.
_ORDER, _SAMPLE, _SUBSET = 0, 1, 2


class Stream(IntEnum):
    """Source of a sample. The value is part of its seed."""

    LABELED = 0
    UNLABELED = 1
    PARTNER = 2
    BALANCED = 3  # labeled images that were chosen by a class


class Draw(NamedTuple):
    """One sample of a batch."""

    stream: Stream
    item: int  # position in the stream's list of ids
    epoch: int  # number of previous passes of the stream over that list; of BALANCED: the position in it


def sample_rng(seed: int, draw: Draw) -> np.random.Generator:
    """The random generator of one sample: its geometry, its colors, its boxes."""
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(_SAMPLE, *draw)))


@functools.lru_cache(maxsize=8)
def _order(seed: int, stream: Stream, length: int, epoch: int) -> np.ndarray:
    sequence = np.random.SeedSequence(seed, spawn_key=(_ORDER, stream, epoch))
    return np.random.default_rng(sequence).permutation(length)


def draws(seed: int, stream: Stream, length: int, positions: range) -> list[Draw]:
    """The samples at ``positions`` of an endless stream over a list of ``length`` ids.

    The stream is a sequence of random orders of the list; within an order no id repeats.
    """
    places = (divmod(position, length) for position in positions)
    return [Draw(stream, int(_order(seed, stream, length, epoch)[k]), epoch) for epoch, k in places]


class SemiBatchSampler(Sampler[list[Draw]]):
    """Endless batches of draws from all streams, so that one pool of workers decodes them all.

    All ranks share one global stream: at every step, W ranks with batch B see exactly what one process with batch
    W * B would see. A list shorter than a batch repeats within it, with different augmentation.

    Args:
        n_labeled: length of the labeled list.
        n_unlabeled: length of the unlabeled list; 0 disables the unlabeled streams.
        batch_labeled: labeled images per batch and rank.
        batch_unlabeled: unlabeled images per batch and rank.
        seed: the run's seed, >= 0.
        partner: as ``ViewSpec.partner``. ``same_image`` draws the same ids as the unlabeled stream, but as another
            stream, hence with different augmentation. ``other`` has its own order.
        rank: rank of this process.
        world_size: number of processes.
        start_step: number of batches this rank has already been given in earlier parts of the run.
        labeled_draws: (positions) -> labeled draws, see ``semiseg.data.loading.balance``; None: random orders.
    """

    def __init__(
        self,
        n_labeled: int,
        n_unlabeled: int,
        *,
        batch_labeled: int,
        batch_unlabeled: int,
        seed: int,
        partner: Literal["flip", "same_image", "other"] = "flip",
        rank: int = 0,
        world_size: int = 1,
        start_step: int = 0,
        labeled_draws: Callable[[range], list[Draw]] | None = None,
    ) -> None:
        if seed < 0:
            raise InputError(f"seed is {seed}: expected an integer of 0 or more")
        self.n_labeled, self.n_unlabeled = n_labeled, n_unlabeled
        self.batch_labeled, self.batch_unlabeled = batch_labeled, batch_unlabeled
        self.seed, self.partner = seed, partner
        self.rank, self.world_size, self.start_step = rank, world_size, start_step
        self.labeled_draws = labeled_draws or functools.partial(draws, seed, Stream.LABELED, n_labeled)

    def __iter__(self) -> Iterator[list[Draw]]:
        return map(self.batch, itertools.count(self.start_step))

    def batch(self, step: int) -> list[Draw]:
        """The draws of this rank at ``step``: labeled, unlabeled, then one partner per unlabeled image."""
        batch = self.labeled_draws(self._positions(step, self.batch_labeled))
        if self.n_unlabeled == 0:
            return batch
        positions = self._positions(step, self.batch_unlabeled)
        unlabeled = draws(self.seed, Stream.UNLABELED, self.n_unlabeled, positions)
        batch += unlabeled
        if self.partner == "same_image":
            batch += [draw._replace(stream=Stream.PARTNER) for draw in unlabeled]
        elif self.partner == "other":
            batch += draws(self.seed, Stream.PARTNER, self.n_unlabeled, positions)
        return batch

    def _positions(self, step: int, batch: int) -> range:
        start = (step * self.world_size + self.rank) * batch
        return range(start, start + batch)


def spread(length: int, count: int) -> list[int]:
    """``count`` of ``length`` positions, one drawn from each of ``count`` equal intervals; the same for every call.

    Neighbors in a list are often neighbors in a video. The run's seed is not used, so all runs are measured on the
    same images.
    """
    rng = np.random.default_rng(np.random.SeedSequence(0, spawn_key=(_SUBSET,)))
    borders = [length * i // count for i in range(count + 1)]
    return [int(rng.integers(low, high)) for low, high in itertools.pairwise(borders)]


class EvalSampler(Sampler[list[int]]):
    """Batches of positions that are determined anew for every pass.

    Args:
        batches: () -> the batches of the next pass.
        longest: maximum number of batches in a pass; Lightning reads the length only once, before the first pass.
    """

    def __init__(self, batches: Callable[[], list[list[int]]], longest: int) -> None:
        self.batches, self.longest = batches, longest

    def __len__(self) -> int:
        return self.longest

    def __iter__(self) -> Iterator[list[int]]:
        return iter(self.batches())
