"""Dry runs: compose, check and assemble a run, read its data, measure five steps, and write nothing.

``python -m semiseg.training.dry_run FILE OVERRIDES...`` writes the measurements as JSON, for sweeps, which plan
their jobs without torch.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from semiseg.config import compose_run
from semiseg.config.settings import Settings, read_settings
from semiseg.errors import InputError
from semiseg.methods.stages import StagedMethod
from semiseg.runs.files import write_json
from semiseg.runs.folder import RunFolder
from semiseg.runs.result import RunResult
from semiseg.sweep.cost import duration
from semiseg.training.assemble import Assembly, list_data
from semiseg.training.memory import free_memory
from semiseg.training.out_of_memory import is_out_of_memory, out_of_memory
from semiseg.training.prepare import Prepared, prepare
from semiseg.training.short_run import STEPS, WARMUP, Speed, measure
from semiseg.training.summary import summary


@dataclass(frozen=True)
class DryRun:
    """A run that is ready to start, with its estimated time and memory.

    Attributes:
        folder: the run folder it would use.
        prepared: its objects.
        speed: the measurements.
        free_mb: free memory before the measurement, in MiB; None if the system does not report it.
        steps: optimizer steps that are left.
        val_every: steps between two validations.
    """

    folder: RunFolder
    prepared: Prepared
    speed: Speed
    free_mb: float | None
    steps: int
    val_every: int

    @property
    def validations(self) -> int:
        """Number of validations left, the one after the last step included."""
        return -(-self.steps // self.val_every)

    @property
    def seconds_training(self) -> float:
        """Estimated time of the remaining steps."""
        return self.steps * self.speed.step

    @property
    def seconds_validation(self) -> float:
        """Estimated time of the remaining validations; all but the last use ``val_subset`` images."""
        data = self.prepared.assembly.datamodule
        if not self.steps:
            return 0.0
        every = self.speed.of_validation(data.val_subset or len(data.val_ids))
        return (self.validations - 1) * every + self.speed.of_validation(len(data.val_ids))


def dry_run(overrides: Sequence[str]) -> DryRun | RunResult:
    """Do what ``semiseg train`` does before the first step, then measure. Nothing is written.

    Args:
        overrides: as typed.

    Returns:
        The dry run, or the result if the run is already complete.

    Raises:
        InputError: as ``semiseg train`` would.
        RunFailed: out of memory.
    """
    cfg, place = compose_run(overrides)
    settings, folder = read_settings(cfg), RunFolder(place)
    data = list_data(settings)
    if (done := folder.claim(settings.stored, data.record, overwrite=settings.overwrite)) is not None:
        return done
    prepared = prepare(settings, data, folder)
    on_gpu = torch.cuda.is_available() and settings.trainer.accelerator != "cpu"
    free = free_memory("cuda" if on_gpu else "cpu")
    try:
        speed = measure(prepared.settings, data)
    except Exception as e:
        if is_out_of_memory(e):
            raise out_of_memory(e, prepared.settings, 0, validating=False) from e
        raise
    left = max(0, prepared.assembly.max_steps - prepared.step)
    return DryRun(folder, prepared, speed, None if free is None else free / 2**20, left, settings.val_every)


def describe(found: DryRun) -> str:
    """A summary of the run, with its estimated time and memory."""
    prepared, speed = found.prepared, found.speed
    settings, assembly = prepared.settings, prepared.assembly
    return "\n".join(
        [
            summary(settings, found.folder, assembly, speed.device, prepared.resume),
            *(f"warning: {line}" for line in assembly.warnings),
            "dry run: nothing is written",
            *figures(found),
            *(f"  note      {line}" for line in notes(settings, assembly)),
        ]
    )


def figures(found: DryRun) -> list[str]:
    """Lines with the estimated time and memory of a run, and what was measured."""
    speed, n = found.speed, found.validations
    total = found.seconds_training + found.seconds_validation
    where = "on the GPU" if speed.device.startswith("cuda") else "in this process (data workers not included)"
    free = "" if found.free_mb is None else f", {found.free_mb / 1024:.1f} GiB were free"
    images = len(found.prepared.assembly.datamodule.val_ids)
    every = f"{n} validation{'s' if n != 1 else ''} {duration(found.seconds_validation)}"
    return [
        f"  measured  {STEPS} steps after {WARMUP} warm-up steps, {speed.images} of {images} validation images, on "
        f"{speed.device}",
        f"  time      about {duration(total)}: {found.steps} steps x {speed.step:.2g} s = "
        f"{duration(found.seconds_training)}, {every}",
        f"  memory    peak {speed.memory_mb / 1024:.2f} GiB {where}{free}",
    ]


def notes(settings: Settings, assembly: Assembly) -> list[str]:
    """What the estimate does not include."""
    lines = []
    if settings.processes > 1:
        lines.append(f"measured with one process instead of {settings.processes}: communication is not included")
    if isinstance(assembly.method, StagedMethod):
        lines.append("only the first stage was measured: steps of later stages take longer")
    return lines


def main(argv: Sequence[str]) -> None:
    """Write the measurements of a run to the file named first."""
    found = dry_run(argv[1:])
    if not isinstance(found, DryRun):
        raise InputError("the run is complete already")
    data = found.prepared.assembly.datamodule
    write_json(Path(argv[0]), {**asdict(found.speed), "n_val": len(data.val_ids), "val_subset": data.val_subset})


if __name__ == "__main__":
    main(sys.argv[1:])
