"""Assigns GPUs, or a share of the cores, to jobs."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence

from semiseg.errors import InputError
from semiseg.sweep.jobs import Job


def visible_gpus(environment: Mapping[str, str] = os.environ) -> list[str]:
    """The GPUs that this process may use, as CUDA_VISIBLE_DEVICES names them; asks ``nvidia-smi``, not torch."""
    given = environment.get("CUDA_VISIBLE_DEVICES")
    if given is not None:
        return [gpu.strip() for gpu in given.split(",") if gpu.strip() and gpu.strip() != "-1"]
    if shutil.which("nvidia-smi") is None:
        return []
    listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, check=False, timeout=60)
    count = sum(line.startswith("GPU ") for line in listed.stdout.splitlines()) if listed.returncode == 0 else 0
    return [str(i) for i in range(count)]


def cpu_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def make_slots(
    n_jobs: int | None, devices: int, gpus: Sequence[str], cores: int, key: str = "hydra.launcher.n_jobs"
) -> list[dict[str, str]]:
    """The environment variables of each slot for a job.

    Args:
        n_jobs: jobs at a time; None for one per group of ``devices`` GPUs, or one if there is no GPU.
        devices: GPUs per job (``trainer.devices``).
        gpus: the available GPUs; empty if jobs run on the CPU. With more jobs than groups, jobs share GPUs.
        cores: the available cores; concurrent jobs share them evenly.
        key: name of ``n_jobs`` in an error line.

    Raises:
        InputError: a number below one, or a job needs more GPUs than available.
    """
    if n_jobs is not None and n_jobs < 1:
        raise InputError(f"{key}={n_jobs}: expected a positive number, or null for one job per GPU")
    if gpus and devices > len(gpus):
        raise InputError(f"trainer.devices={devices}: this machine has {len(gpus)} GPU(s)")
    groups = [gpus[i : i + devices] for i in range(0, len(gpus) - devices + 1, devices)] if gpus else []
    count = n_jobs or max(1, len(groups))
    slots: list[dict[str, str]] = [{} for _ in range(count)]
    for i, slot in enumerate(slots):
        if groups and count > 1:
            slot["CUDA_VISIBLE_DEVICES"] = ",".join(groups[i % len(groups)])
        if count > 1 and "OMP_NUM_THREADS" not in os.environ:
            slot["OMP_NUM_THREADS"] = str(max(1, cores // (count * devices)))
    return slots


def slots_for(jobs: Sequence[Job], n_jobs: int | None, key: str = "hydra.launcher.n_jobs") -> list[dict[str, str]]:
    """The slots of this machine for these jobs; see ``make_slots``."""
    gpus = visible_gpus() if any(job.on_gpu for job in jobs) else []
    return make_slots(n_jobs, max((job.devices for job in jobs), default=1), gpus, cpu_cores(), key)
