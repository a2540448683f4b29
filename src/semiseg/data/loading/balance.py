"""``data.balance=classes``: labeled crops show rare classes more often."""

from __future__ import annotations

import numpy as np

from semiseg.data.loading.sampling import Draw, Stream, draws

TRIES = 10
"""Maximum number of crops drawn until one shows the class."""

_BALANCE = 3  # first word of the spawn key, distinct from those in `sampling`


class ClassBalance:
    """Every second labeled sample is chosen by class; the others are drawn as usual.

    The class is uniform over those in any labeled mask, the image uniform over those that show it; the crop is the
    first of up to `TRIES` that shows the class. Everything is determined by the seed and the position in the stream.

    Args:
        shows: (N, C) bool, the classes that each labeled image shows.
        seed: the run's seed.

    Source: class-uniform sampling as in Rota Bulo et al. 2018 (In-Place ABN), for half of the samples.
    """

    def __init__(self, shows: np.ndarray, seed: int) -> None:
        self.seed, self.n_images = seed, len(shows)
        self._images = [np.flatnonzero(column) for column in shows.T]
        self._classes = np.flatnonzero(shows.any(0))

    def draws(self, positions: range) -> list[Draw]:
        """The labeled samples at these positions of the endless stream."""
        return [self._by_class(p) if p % 2 and len(self._classes) else self._ordinary(p // 2) for p in positions]

    def wanted(self, draw: Draw) -> int:
        """The class that a sample of the stream ``BALANCED`` was chosen for."""
        return self._choose(draw.epoch)[0]

    def _ordinary(self, position: int) -> Draw:
        return draws(self.seed, Stream.LABELED, self.n_images, range(position, position + 1))[0]

    def _by_class(self, position: int) -> Draw:
        return Draw(Stream.BALANCED, self._choose(position)[1], position)

    def _choose(self, position: int) -> tuple[int, int]:
        rng = np.random.default_rng(np.random.SeedSequence(self.seed, spawn_key=(_BALANCE, position)))
        wanted = int(rng.choice(self._classes))
        return wanted, int(rng.choice(self._images[wanted]))
