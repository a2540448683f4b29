"""Runs a few real steps of a run in its own training loop, to measure them. Leaves nothing on disk."""

from __future__ import annotations

import dataclasses
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch

from semiseg.config.settings import Settings
from semiseg.data.loading.sampling import spread
from semiseg.methods.stages import StagedMethod
from semiseg.runs.data import RunData
from semiseg.runs.folder import RunFolder
from semiseg.training.assemble import assemble, list_data
from semiseg.training.callbacks.checkpoints import Checkpoints
from semiseg.training.callbacks.diagnostics import Diagnostics
from semiseg.training.callbacks.heartbeat import Heartbeat
from semiseg.training.callbacks.lease_guard import LeaseGuard
from semiseg.training.callbacks.progress import Progress
from semiseg.training.callbacks.pruning import Pruning
from semiseg.training.callbacks.run_record import RunRecord, peak_memory
from semiseg.training.callbacks.step_watch import StepWatch
from semiseg.training.trainer import build_trainer, prepare_networks, quiet_lightning

STEPS = 5
"""Measured optimizer steps."""
WARMUP = 3
"""Steps before them, in which kernels are selected and the queues of the loader fill up."""
IMAGES = 4
"""Measured validation images."""

LEFT_OUT = (LeaseGuard, Progress, Heartbeat, Checkpoints, Pruning, Diagnostics)
"""Callbacks that write files or heartbeats."""


@dataclass(frozen=True)
class Speed:
    """The measurements of a short run.

    Attributes:
        step: seconds per optimizer step, the mean over ``STEPS``.
        image: seconds per validation image, for all networks of the method together.
        validation: seconds of a validation that do not depend on the number of images.
        images: number of validation images measured.
        memory_mb: peak memory in MiB, on the GPU, or of this process on a CPU.
        device: ``cpu``, ``cuda:0``.
    """

    step: float
    image: float
    validation: float
    images: int
    memory_mb: float
    device: str

    def of_validation(self, images: int) -> float:
        """Estimated seconds of a validation on this number of images."""
        return self.validation + images * self.image


class Clock(pl.Callback):
    """Records when steps and validation batches end.

    Attributes:
        steps: end of each optimizer step.
        batches: start of the validation, then the end of each batch.
    """

    def __init__(self) -> None:
        self.steps: list[float] = []
        self.batches: list[float] = []

    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        """With gradient accumulation a step has several batches."""
        if trainer.global_step > len(self.steps):
            self.steps.append(_now(trainer))

    def on_validation_start(self, trainer: pl.Trainer, *_: Any) -> None:
        """Record the start."""
        self.batches.append(_now(trainer))

    def on_validation_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        """Record the end of a batch."""
        self.batches.append(_now(trainer))


def measure(settings: Settings, data: RunData | None = None) -> Speed:
    """Train five steps of a run after three warm-up steps, then validate a few images.

    Uses a single process, even if the run has several.

    Args:
        settings: of the run.
        data: its data, if already listed.
    """
    clock = Clock()
    data = data or list_data(settings)
    images = [data.val_ids[i] for i in spread(len(data.val_ids), min(IMAGES, len(data.val_ids)))]
    trainer = train_briefly(settings, clock, WARMUP + STEPS, data, images)
    begin, *ends = clock.batches
    # The first batch includes the start of the workers. If there is only one batch, there is no way to tell.
    first = min(settings.loader.eval_batch, len(images))
    image = (ends[-1] - ends[0]) / (len(images) - first) if len(ends) > 1 else (ends[0] - begin) / first
    device = trainer.strategy.root_device
    return Speed(
        step=(clock.steps[-1] - clock.steps[WARMUP - 1]) / STEPS,
        image=image,
        validation=max(0.0, ends[-1] - begin - len(images) * image),
        images=len(images),
        memory_mb=peak_memory(device),
        device=str(device),
    )


def train_briefly(
    settings: Settings,
    measured: pl.Callback,
    steps: int,
    data: RunData | None = None,
    val_ids: Sequence[str] = (),
) -> pl.Trainer:
    """Train some steps as ``semiseg train`` would, in this process only. Leaves nothing on disk.

    Warm-up phases are shares of a run, so in a run this short they end early, and later steps are measured. A method
    with stages keeps its full length and stays in the first one, since the work between two stages takes long.

    Args:
        settings: of the run; the number of steps, validation and panels are replaced.
        measured: a callback, placed before the others.
        steps: optimizer steps.
        data: its data, if already listed.
        val_ids: images to validate after the last step; empty for no validation.

    Returns:
        The trainer after the last step.
    """
    whole = settings
    settings = dataclasses.replace(
        settings,
        max_steps=steps,
        epochs=None,
        val_every=steps if val_ids else 10**9,
        val_subset=None,
        trainer=dataclasses.replace(settings.trainer, log_every=steps + 1, save_every=10**9, devices=1, num_nodes=1),
        diagnostics=dataclasses.replace(settings.diagnostics, panels=0),
    )
    assembly = assemble(settings, data)
    if isinstance(assembly.method, StagedMethod):
        whole = dataclasses.replace(whole, trainer=settings.trainer)
        assembly = dataclasses.replace(assemble(whole, data), max_steps=steps)
    if val_ids:
        assembly.datamodule.val_ids = list(val_ids)
    prepare_networks(assembly.method, settings.trainer)
    with tempfile.TemporaryDirectory(prefix="semiseg_") as place, quiet_lightning():
        folder = RunFolder(Path(place))
        watch = _Watch(folder.nonfinite, settings.trainer.on_nonfinite)
        trainer = build_trainer(settings, folder, assembly, record=RunRecord(), watch=watch, info={})
        kept = [c for c in trainer.callbacks if not isinstance(c, LEFT_OUT)]  # type: ignore[attr-defined]
        trainer.callbacks = [measured, *kept]  # type: ignore[attr-defined]
        try:
            trainer.fit(assembly.method, datamodule=assembly.datamodule)
        except SystemExit as e:  # Lightning turns Ctrl-C into this
            raise KeyboardInterrupt from e
        finally:
            assembly.datamodule.close()
    return trainer


class _Watch(StepWatch):
    """Looks at every loss, but listens to no signal: Ctrl-C ends a short run immediately."""

    def on_fit_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Leave the handlers of signals alone."""


def _now(trainer: pl.Trainer) -> float:
    """Current time in seconds, after the device has finished its work."""
    device = trainer.strategy.root_device
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()
