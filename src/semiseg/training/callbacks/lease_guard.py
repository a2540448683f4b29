"""Ends a run whose lease somebody else has taken over, before anything more is written."""

from __future__ import annotations

import time
from typing import Any

import pytorch_lightning as pl

from semiseg.runs.lease import check_held, current


class LeaseGuard(pl.Callback):
    """Looks at the lease between two batches, at most every ``every`` seconds; first of all callbacks.

    A run without a lease is left alone. Checkpoints and the result look again when they are put in place.
    """

    def __init__(self, every: float = 1.0) -> None:
        self.every = every
        self._leased = current() is not None
        self._looked = time.monotonic()

    def on_train_batch_end(self, *_: Any) -> None:
        """Before the callbacks that write."""
        self._look()

    def on_validation_batch_end(self, *_: Any) -> None:
        """Also in a long validation."""
        self._look()

    def on_validation_end(self, *_: Any) -> None:
        """Before the numbers are logged."""
        self._look()

    def _look(self) -> None:
        now = time.monotonic()
        if self._leased and now - self._looked >= self.every:
            self._looked = now
            check_held()
