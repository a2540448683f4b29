"""Total and free memory of this machine or of a GPU."""

from __future__ import annotations

import os
from pathlib import Path

import torch

_CGROUP = Path("/sys/fs/cgroup")


def free_memory(device: torch.device | str = "cpu") -> int | None:
    """Free bytes; None if the system does not provide the number.

    On a CPU: the kernel's available memory or the remaining memory of a container, whichever is less.
    """
    if torch.device(device).type == "cuda":
        return int(torch.cuda.mem_get_info(torch.device(device))[0])
    found = [v for v in (_available(), _left_in_container()) if v is not None]
    return min(found, default=None)


def total_memory(device: torch.device | str = "cpu") -> int | None:
    """Bytes that a process can have at most; None where the system does not say.

    On a CPU: what the machine has, or what a container may take, whichever is less.
    """
    if torch.device(device).type == "cuda":
        return int(torch.cuda.get_device_properties(torch.device(device)).total_memory)
    found = [v for v in (_physical(), _limit_of_container()) if v is not None]
    return min(found, default=None)


def _physical() -> int | None:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (OSError, ValueError):
        return None


def _limit_of_container() -> int | None:
    try:
        return int((_CGROUP / "memory.max").read_text())  # "max": no limit
    except (OSError, ValueError):
        return None


def _available() -> int | None:
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except (OSError, ValueError):
        pass
    return None


def _left_in_container() -> int | None:
    try:
        limit, used = ((_CGROUP / f"memory.{name}").read_text().strip() for name in ("max", "current"))
        cached = dict(line.split() for line in (_CGROUP / "memory.stat").read_text().splitlines())
        return int(limit) - int(used) + int(cached.get("inactive_file", 0))  # "max": no limit
    except (OSError, ValueError):
        return None
