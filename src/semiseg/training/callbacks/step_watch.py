"""Before every optimizer step, all processes agree whether to continue: stop requests and non-finite losses."""

from __future__ import annotations

import logging
import math
import os
import signal
import threading
import time
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor
from torch import distributed as dist

from semiseg.errors import RunFailed
from semiseg.ops.distributed import is_distributed, largest
from semiseg.training.notice import SECOND, SIGNALS, Deadline

log = logging.getLogger(__name__)

SKIPPED_IN_A_ROW = 20


class Stopped(Exception):
    """The run was requested to stop, and its checkpoint is written."""


class StepWatch(pl.Callback):
    """Reads two flags per step without idling the device.

    After the forward pass, the flags are copied to the host asynchronously; they are read after the backward pass has
    been queued, so that the device stays busy, and before the optimizer step. Several processes first reduce them
    (one number each), so that all stop at the same step, regardless of which one received the signal.

    Args:
        folder: folder for steps with a non-finite loss, ``step_<n>.pt``, which load with ``weights_only``.
        on_nonfinite: ``stop``, or ``skip`` that optimizer step.

    Attributes:
        stopping: name of the signal or source that requested the stop; "" if none.
    """

    def __init__(self, folder: Path, on_nonfinite: str = "stop") -> None:
        self.folder, self.on_nonfinite = Path(folder), on_nonfinite
        self.stopping = ""
        self.deadline = Deadline()
        self._notice = ""
        self._noticed = 0.0
        self._before: dict[Any, Any] = {}
        self._pending: list[tuple[Tensor, Any, dict[str, Tensor], dict[str, list[str]]]] = []
        self._ids: dict[str, list[str]] = {}
        self._skipped = 0

    # -- the notice -------------------------------------------------------------------------------------------

    def on_fit_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Install signal handlers before the first collective: a process that trains then knows that all have them."""
        self._speaks = trainer.is_global_zero
        # Lightning's own handler would start a collective wherever it interrupts the process.
        trainer._signal_connector.register_signal_handlers = lambda: None  # type: ignore[method-assign]
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._on_signal) for number in SIGNALS}
            self.deadline.__enter__()

    def __enter__(self) -> StepWatch:
        return self

    def __exit__(self, *exc: Any) -> None:
        self.deadline.__exit__(*exc)
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}

    def _on_signal(self, number: int, frame: Any) -> None:
        if self._notice and (number == signal.SIGINT or time.monotonic() - self._noticed > SECOND):
            raise KeyboardInterrupt
        if not self._notice:
            if self._speaks:
                os.write(2, b"\nstopping: a checkpoint will be written after this step (again: stop immediately)\n")
            self._notice, self._noticed = signal.Signals(number).name, time.monotonic()

    # -- one step ---------------------------------------------------------------------------------------------

    def on_train_batch_end(self, *_: Any) -> None:
        """Renew the deadline."""
        self.deadline.renew()

    def on_validation_batch_end(self, *_: Any) -> None:
        """Renew the deadline."""
        self.deadline.renew()

    def on_save_checkpoint(self, *_: Any) -> None:
        """Renew the deadline: writing may take a while on a slow disk."""
        self.deadline.renew()

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: Any, batch: Any, batch_idx: int) -> None:
        """Remember the image ids of the batch."""
        self._ids = {"labeled": batch.ids}
        for stream in ("unlabeled", "partner"):
            if (views := getattr(batch, stream, None)) is not None:
                self._ids[stream] = views.ids

    def on_before_backward(self, trainer: pl.Trainer, pl_module: Any, loss: Tensor) -> None:
        """Start copying the flags to the host."""
        terms = pl_module.terms
        flags = torch.zeros(2, device=loss.device)
        flags[0] = ~terms["loss"].isfinite()
        flags[1].fill_(bool(self._notice))
        flags, arrived = largest(flags), None
        if flags.device.type == "cuda":
            host = torch.empty(2, pin_memory=True)
            host.copy_(flags, non_blocking=True)
            arrived = torch.cuda.Event()
            arrived.record()
            flags = host
        self._pending.append((flags, arrived, terms, self._ids))

    def on_before_optimizer_step(self, trainer: pl.Trainer, pl_module: Any, optimizer: Any) -> None:
        """Read the flags of all batches of this step.

        Raises:
            RunFailed: a loss is not finite, and skipping is not allowed or not possible.
        """
        pending, self._pending = self._pending, []
        wrong = stop = False
        for flags, arrived, *_ in pending:
            if arrived is not None:
                arrived.synchronize()
            nonfinite, asked = flags.tolist()
            wrong, stop = wrong or nonfinite > 0, stop or asked > 0
        if stop and not self.stopping:
            self.stopping = self._notice or "another process"
        self._skipped = self._skipped + 1 if wrong else 0
        if wrong:
            self._nonfinite(trainer, pl_module, [(terms, ids) for _, _, terms, ids in pending])

    # -- a non-finite loss ------------------------------------------------------------------------------------

    def _nonfinite(self, trainer: pl.Trainer, pl_module: Any, batches: list[Any]) -> None:
        step = trainer.global_step + 1
        mine = ""
        for terms, ids in batches:
            values = {name: value.item() for name, value in terms.items()}
            if not math.isfinite(values["loss"]):
                bad = [f"{k}={v}" for k, v in values.items() if k != "loss" and not math.isfinite(v)]
                place = self._save(trainer, pl_module, step, values, ids)
                named = ", ".join(bad) or "every term by itself is finite"
                mine = f"the loss is {values['loss']} at step {step} ({named}); image ids and state: {place}"
                break
        line = next(filter(None, everybody(mine)), mine)
        if self.on_nonfinite == "stop":
            raise RunFailed(f"{line}; lower optim.lr, or trainer.on_nonfinite=skip to skip such steps")
        if self._skipped >= SKIPPED_IN_A_ROW:
            raise RunFailed(f"{line}; {self._skipped} steps in a row: skipping does not help")
        state = pl_module.state_dict()
        if broken := [k for k, v in state.items() if v.is_floating_point() and not v.isfinite().all()]:
            raise RunFailed(f"{line}; cannot skip it: the forward pass has already written it into {broken[0]}")
        for parameter in pl_module.parameters():
            parameter.grad = None  # the optimizer skips parameters without a gradient, including momentum and decay
        if trainer.is_global_zero:
            log.warning("%s; step skipped", line)

    def _save(self, trainer: pl.Trainer, pl_module: Any, step: int, values: dict[str, float], ids: Any) -> Path:
        rank = f"_rank{trainer.global_rank}" if trainer.world_size > 1 else ""
        path = self.folder / f"step_{step}{rank}.pt"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            torch.save({"step": step, "terms": values, "ids": ids, "state_dict": pl_module.state_dict()}, path)
        except (OSError, RuntimeError) as e:
            log.warning("%s could not be written: %s", path, e)
        return path


def everybody(mine: str) -> list[str]:
    """Gather a string from every process, in rank order."""
    if not is_distributed():
        return [mine]
    said: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(said, mine)
    return said
