"""A job of a sweep: one ``semiseg train`` with its own run folder, and its outcome. Does not import torch."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path

from semiseg.config.quoting import quoted
from semiseg.runs.result import read_result

PRUNED = "pruned"
"""Prefix of the error text of a run that was stopped by a pruner."""

IN_USE = "is in use by another process"
"""In the error of a job whose run folder is locked: the run is active in another process."""

FENCED = "this run was taken over by another worker"
"""In the error of a job that lost its lease."""

GRACE = 600
"""Seconds after a signal for the processes of a job to finish their step and write a checkpoint."""


@dataclass(frozen=True)
class Job:
    """One run of a sweep.

    Attributes:
        overrides: the arguments of ``semiseg train``.
        folder: its run folder.
        label: what distinguishes it from the other jobs, for display.
        devices: processes per node, each with a GPU if available.
        nodes: number of machines.
        on_gpu: whether it uses GPUs if available.
        data: fingerprint of its data.
    """

    overrides: tuple[str, ...]
    folder: Path
    label: str = ""
    devices: int = 1
    nodes: int = 1
    on_gpu: bool = False
    data: str = ""

    @property
    def name(self) -> str:
        """Display name."""
        return self.label or str(self.folder)


@dataclass(frozen=True)
class Node:
    """One of several machines that run a job together.

    Attributes:
        rank: its index.
        address: rendezvous ``HOST:PORT`` on the first machine.
    """

    rank: int
    address: str


@dataclass(frozen=True)
class Outcome:
    """The outcome of a job. ``status``: completed, pruned, interrupted or failed; ``miou``: the best, in [0, 1]."""

    job: Job
    status: str
    miou: float | None = None
    error: str | None = None

    def __str__(self) -> str:
        number = "" if self.miou is None else f", best mIoU {100 * self.miou:.2f}"
        reason = f": {self.error}" if self.error else ""
        return f"{self.status} {self.job.name}{number}{reason}"


def outcome(job: Job, error: str | None = None) -> Outcome:
    """The outcome of a job, from its run folder and the last error line of its process, if it failed."""
    result = read_result(job.folder)
    miou = result["miou"]["best"] if result else None
    told = result["error"] if result else None
    if result and result["status"] == "completed":
        return Outcome(job, "completed", miou)
    if told and told.startswith(PRUNED):
        return Outcome(job, "pruned", miou, told)
    if error and (IN_USE in error or FENCED in error):
        return Outcome(job, "interrupted", error=error)
    if error and error != "interrupted":
        return Outcome(job, "failed", error=error)
    if error is None and result and result["status"] == "failed":
        return Outcome(job, "failed", error=told)
    return Outcome(job, "interrupted", miou, None if error else told)


def command(job: Job, node: Node | None = None) -> list[str]:
    """The command line of a job, or of one node's part of it."""
    train = ["-m", "semiseg", "train", *job.overrides, quoted("hydra.run.dir", job.folder)]
    if node is None:
        return [sys.executable, *train]
    host, port = node.address.rsplit(":", 1)
    rendezvous = [f"--nnodes={job.nodes}", f"--node_rank={node.rank}", f"--master_addr={host}", f"--master_port={port}"]
    processes = [f"--nproc_per_node={job.devices}", f"--shutdown_timeout={GRACE}"]
    return [sys.executable, "-m", "semiseg.training.torchrun", str(os.getpid()), "-", *rendezvous, *processes, *train]
