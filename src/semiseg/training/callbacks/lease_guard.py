"""Ends a run whose lease was taken over by another process, before anything more is written."""

from __future__ import annotations

import time
from typing import Any

import pytorch_lightning as pl

from semiseg.runs.lease import check_held, current


class LeaseGuard(pl.Callback):
    """Checks the lease between batches, at most every ``every`` seconds, before all other callbacks.

    Does nothing for a run without a lease. Checkpoints and the result check again when they are moved into place.
    """

    def __init__(self, every: float = 1.0) -> None:
        self.every = every
        self._leased = current() is not None
        self._looked = time.monotonic()

    def on_train_batch_end(self, *_: Any) -> None:
        """Check before the callbacks that write."""
        self._look()

    def on_validation_batch_end(self, *_: Any) -> None:
        """Check during a long validation."""
        self._look()

    def on_validation_end(self, *_: Any) -> None:
        """Check before the numbers are logged."""
        self._look()

    def _look(self) -> None:
        now = time.monotonic()
        if self._leased and now - self._looked >= self.every:
            self._looked = now
            check_held()
