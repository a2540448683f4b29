"""Peak memory of a function call."""

from __future__ import annotations

import gc
import json
import os
import tempfile
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # silence the profiler's messages about a missing GPU

import torch
from torch.profiler import ProfilerActivity, profile
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


def peak_memory(work: Callable[[], object], device: torch.device | str = "cpu") -> int:
    """Peak bytes in tensors during ``work``, including all intermediate results.

    Only tensors that are made during the work are counted. On a CPU it runs under PyTorch's memory profiler; on
    ``meta`` the tensors that are alive are counted after every operation.
    """
    if torch.device(device).type == "meta":
        with _LiveTensors() as live:
            work()
        return live.peak
    if torch.device(device).type == "cuda":
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        work()
        return torch.cuda.max_memory_allocated(device) - before
    gc.collect()  # what an earlier call left behind would be freed, and subtracted, during the work
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        work()
    with tempfile.TemporaryDirectory() as folder:
        trace = Path(folder) / "trace.json"
        profiler.export_chrome_trace(str(trace))
        events = [e for e in json.loads(trace.read_text())["traceEvents"] if e["name"] == "[memory]"]
    if not events:
        return 0
    events.sort(key=lambda e: e["ts"])
    # The counter continues from earlier profiles of this process, and misses what is freed between them.
    before = events[0]["args"]["Total Allocated"] - events[0]["args"]["Bytes"]
    return int(max(e["args"]["Total Allocated"] for e in events) - before)


class _LiveTensors(TorchDispatchMode):
    """Bytes of the storages that operations make, each from its first use until nothing refers to it any more.

    Attributes:
        peak: most bytes at one moment.
    """

    def __init__(self) -> None:
        super().__init__()
        self.peak = self._now = 0
        self._known: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        for x in tree_leaves((args, kwargs)):
            self._note(x, made=False)
        found = func(*args, **(kwargs or {}))
        for x in tree_leaves(found):
            self._note(x, made=True)
        self.peak = max(self.peak, self._now)
        return found

    def _note(self, x: Any, *, made: bool) -> None:
        if not isinstance(x, torch.Tensor):
            return
        storage = x.untyped_storage()
        if storage._cdata not in self._known:
            size = storage.nbytes() if made else 0
            self._known.add(storage._cdata)
            self._now += size
            weakref.finalize(storage, self._gone, storage._cdata, size)

    def _gone(self, key: int, size: int) -> None:
        self._known.remove(key)
        self._now -= size
