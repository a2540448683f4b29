"""``batch=auto``: the largest batch that fits, estimated from the memory of a step at two batch sizes."""

from __future__ import annotations

import dataclasses
import json
import logging
import math
import os
from functools import partial
from pathlib import Path

import torch

from semiseg.config.schema import Batch
from semiseg.config.settings import Settings
from semiseg.errors import InputError, RunFailed
from semiseg.runs.data import RunData
from semiseg.training.assemble import assemble
from semiseg.training.out_of_memory import is_out_of_memory
from semiseg.training.peak_memory import peak_memory
from semiseg.training.trainer import prepare_networks

log = logging.getLogger(__name__)

MARGIN = 0.1
"""Share of the free memory kept as reserve: fragmentation, validation, workspaces of other kernels."""


def with_batch(settings: Settings, data: RunData, path: Path) -> tuple[Settings, dict[str, int] | None]:
    """Settings with the batch that fits; logs the choice. A resumed run keeps its original batch.

    The learning rate is unchanged unless ``batch.scale_lr``: then it grows with the labeled images per step
    (Goyal et al. 2017, linear scaling rule).

    Args:
        settings: settings of the run; returned unchanged without ``batch.auto``.
        data: the training data.
        path: file with the choice of an earlier start.

    Returns:
        The settings, and the content to store at ``path``; None without ``batch.auto``.

    Raises:
        InputError: several processes, or not even the smallest batch fits.
    """
    if not settings.batch.auto:
        return settings, None
    if settings.processes > 1:
        raise InputError("batch=auto measures one process: set batch.labeled and batch.unlabeled, or trainer.devices=1")
    kept = None if settings.overwrite else _read(path)
    unit = _unit(settings)
    k, free, needed = kept or _choose(settings, data, unit)
    chosen = {"labeled": k * unit[0], "unlabeled": k * unit[1], "free": free, "needed": needed, "units": k}
    batch = dataclasses.replace(settings.batch, labeled=k * unit[0], unlabeled=k * unit[1])
    factor = batch.labeled / settings.batch.labeled
    line = f"batch=auto: {batch.labeled} labeled + {batch.unlabeled} unlabeled, about {needed / 2**30:.2f} of "
    line += f"{free / 2**30:.2f} GiB; the recipe has {settings.batch.labeled} + {settings.batch.unlabeled}"
    settings = dataclasses.replace(settings, batch=batch)
    lr = settings.resolved["optim"]["lr"]
    if settings.batch.scale_lr and factor != 1:
        optim = partial(settings.make.optim, lr=lr * factor)
        settings = dataclasses.replace(settings, make=dataclasses.replace(settings.make, optim=optim))
        line += f"; learning rate {lr:g} -> {lr * factor:g}"
    else:
        line += f"; learning rate {lr:g} unchanged"
    log.info("%s", line)
    return settings, chosen


def largest(memory: tuple[int, int], units: tuple[int, int], free: int, limit: int) -> tuple[int, int]:
    """The most units that fit into ``free`` bytes, and the bytes they need, extrapolated linearly from two points.

    Args:
        memory: bytes of a step at ``units``.
        units: two batch sizes.
        free: available bytes.
        limit: maximum number of units.

    Returns:
        0 units if not even one fits.
    """
    slope = max((memory[1] - memory[0]) / (units[1] - units[0]), 1.0)
    fixed = memory[0] - slope * units[0]
    k = min(limit, math.floor((free - fixed) / slope)) if free > fixed else 0
    return k, round(fixed + slope * k)


def free_memory(device: torch.device) -> int:
    """Bytes that this process can still allocate."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_AVPHYS_PAGES")


def step_peak(settings: Settings, data: RunData, batch: Batch, device: torch.device) -> int:
    """Bytes needed by a run with this batch size: networks, optimizer states, and the peak of a step."""
    settings = dataclasses.replace(settings, batch=batch)
    assembly = assemble(settings, data)
    prepare_networks(assembly.method, settings.trainer)
    method = assembly.method.to(device).train()
    datamodule = assembly.datamodule
    datamodule.num_workers = 0
    images = datamodule.transfer_batch_to_device(next(iter(datamodule.train_dataloader())), device, 0)
    images = datamodule.on_after_batch_transfer(images, 0)
    dtype = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}.get(settings.trainer.precision)

    def step() -> None:
        with torch.autocast(device.type, dtype, enabled=dtype is not None):
            loss = method.step(images).loss
        loss.backward()

    step()  # the first step allocates what stays: gradients, queues, workspaces
    peak = peak_memory(step, device)
    networks = sum(x.nbytes for x in (*method.parameters(), *method.buffers()))
    trained = sum(p.nbytes for p in method.parameters() if p.requires_grad)
    return peak + networks + 3 * trained  # gradients, and two numbers per parameter for Adam


def _choose(settings: Settings, data: RunData, unit: tuple[int, int]) -> tuple[int, int, int]:
    device = torch.device("cuda" if torch.cuda.is_available() and settings.trainer.accelerator != "cpu" else "cpu")
    free = round((1 - MARGIN) * free_memory(device))
    first = -(-2 // unit[0])  # BatchNorm needs two images
    units = (first, 2 * first)
    try:
        sizes = [dataclasses.replace(settings.batch, labeled=k * unit[0], unlabeled=k * unit[1]) for k in units]
        memory = [step_peak(settings, data, batch, device) for batch in sizes]
    except Exception as e:
        if is_out_of_memory(e):
            raise RunFailed(f"batch=auto: not even {units[1] * unit[0]} labeled images fit; {e}") from e
        raise
    # More images than the data set has would repeat some within a step.
    limit = max(first, len(data.partition.labeled) // unit[0])
    k, needed = largest((memory[0], memory[1]), units, free, limit)
    if k < first:
        raise InputError(
            f"batch=auto: {first * unit[0]} labeled images need {memory[0] / 2**30:.1f} GiB, {free / 2**30:.1f} are "
            "free: trainer.checkpoint_activations=true, trainer.precision=bf16-mixed or a smaller crop_size"
        )
    return k, free, needed


def _unit(settings: Settings) -> tuple[int, int]:
    """The smallest batch with the recipe's ratio of labeled to unlabeled images."""
    labeled, unlabeled = settings.batch.labeled, settings.batch.unlabeled
    divisor = math.gcd(labeled, unlabeled)
    return labeled // divisor, unlabeled // divisor


def _read(path: Path) -> tuple[int, int, int] | None:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        return int(found["units"]), int(found["free"]), int(found["needed"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
