"""A data loader whose errors name the image, and the setup of its worker processes."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Iterable, Iterator
from multiprocessing import AuthenticationError
from multiprocessing.process import BaseProcess
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset, get_worker_info

from semiseg.data.loading.samples import EvalSamples, TrainSamples
from semiseg.errors import InputError, RunFailed


def start_worker(index: int) -> None:
    """Make a worker ignore signals: they reach the whole process group, but the main process handles them."""
    for notice in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):
        signal.signal(notice, signal.SIG_IGN)


class Loader(DataLoader):
    """A DataLoader whose errors name the image: one line, without a traceback, for invalid input."""

    dataset: Watched

    def close(self) -> None:
        """Ask the workers to exit. They ignore SIGTERM, so this process would otherwise wait for them forever."""
        if self._iterator is not None:
            self._iterator._shutdown_workers()  # type: ignore[attr-defined]
            self._iterator = None

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]  # DataLoader names its own iterator class
        return self._with_plain_errors(super().__iter__())

    def _with_plain_errors(self, batches: Iterator[Any]) -> Iterator[Any]:
        try:
            yield from batches
        except (InputError, RunFailed) as error:
            # torch puts the traceback before the message, in one string.
            kind = type(error)
            raise kind(str(error).rsplit(f"{kind.__qualname__}: ", 1)[-1].rstrip()) from None
        except RuntimeError as error:
            if pids := dead_workers(error):
                raise self.ended(pids, error) from error
            raise
        except (OSError, EOFError, AuthenticationError) as error:  # it died while handing over a batch
            if pids := _exited(getattr(batches, "_workers", ())):
                raise self.ended(pids, error) from error
            raise

    def ended(self, pids: list[int], error: BaseException) -> RunFailed:
        """The error for workers that were killed or crashed."""
        places = self.dataset.in_hand(pids)
        return RunFailed(
            f"a data worker died while reading {places}: the file crashes its decoder, or memory ran out "
            f"(loader.num_workers=0 shows which); {str(error).splitlines()[0].rstrip()}"
        )


def _exited(workers: Iterable[BaseProcess]) -> list[int]:
    """Process ids of the workers that have exited, or do so within a second."""
    for worker in (workers := list(workers)):
        worker.join(timeout=1 / len(workers))
    return [worker.pid for worker in workers if worker.pid is not None and not worker.is_alive()]


def dead_workers(error: BaseException) -> list[int]:
    """Process ids of the workers that died according to an error.

    torch raises this error wherever the main process is when it receives the signal, not only in the loader.
    """
    found = re.search(r"worker \(pid\(?s?\)? ([\d, ]+)\)", str(error)) if isinstance(error, RuntimeError) else None
    return [int(pid) for pid in found[1].split(",")] if found else []


class Watched(Dataset):
    """Samples whose errors name the image, even if the worker dies.

    Args:
        samples: with ``locate``: key of a sample -> location of its image.
        num_workers: number of workers of the loader.
    """

    def __init__(self, samples: TrainSamples | EvalSamples, num_workers: int) -> None:
        self.samples = samples
        # One row per worker, in shared memory: its process id, and the key of the current sample.
        self._rows = torch.full((max(num_workers, 1), 4), -1).share_memory_()

    def __getitem__(self, key: Any) -> Any:
        if (worker := get_worker_info()) is not None:
            numbers = [os.getpid(), *(key if isinstance(key, tuple) else (key,))]
            self._rows[worker.id, : len(numbers)] = torch.tensor(numbers)
        try:
            return self.samples[key]
        except (InputError, RunFailed):
            raise
        except Exception as e:
            raise RunFailed(f"{self.samples.locate(key)}: {type(e).__name__}: {e}") from e

    def rows_of(self, pids: list[int]) -> list[list[int]]:
        """The rows of these workers."""
        return [row for row in self._rows.tolist() if row[0] in pids]

    def in_hand(self, pids: list[int]) -> str:
        """Locations of the images that these workers were reading."""
        rows = self.rows_of(pids)
        return " or ".join(self.samples.locate(row[1:]) for row in rows) or "an image"
