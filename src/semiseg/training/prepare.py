"""Preparation shared by runs and dry runs: batch size, objects, checkpoint to resume from."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from semiseg.config.settings import Settings
from semiseg.runs.checkpoint import check_fits, check_weights, newest_checkpoint
from semiseg.runs.data import RunData
from semiseg.runs.folder import RunFolder
from semiseg.training.assemble import Assembly, assemble
from semiseg.training.auto_batch import with_batch
from semiseg.training.enough_memory import check_step_fits


@dataclass(frozen=True)
class Prepared:
    """A run that is ready to start.

    Attributes:
        settings: with the batch size that fits, for ``batch=auto``.
        batch: the record of that choice.
        assembly: the objects.
        resume: the checkpoint to resume from.
        step: its number of optimizer steps.
    """

    settings: Settings
    batch: dict[str, int] | None
    assembly: Assembly
    resume: Path | None = None
    step: int = 0


def prepare(settings: Settings, data: RunData, folder: RunFolder) -> Prepared:
    """Check the files, build the objects, read the checkpoint. Nothing is written.

    Raises:
        InputError: data, settings and checkpoint do not fit together.
    """
    settings, batch = with_batch(settings, data, folder.batch)
    assembly = assemble(settings, data, check_files=True)
    check_step_fits(settings, assembly.method)
    found = None if settings.overwrite else newest_checkpoint(folder)
    if found is None:
        return Prepared(settings, batch, assembly)
    path, checkpoint = found
    check_fits(checkpoint, settings.stored, tuple(data.dataset.classes), path)
    check_weights(checkpoint, assembly.method.state_dict(), path)
    return Prepared(settings, batch, assembly, path, int(checkpoint["global_step"]))
