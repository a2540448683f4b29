"""An index file next to the run folders that caches the curves of their metrics.csv, so that reports read fewer files.

A metrics.csv may have a million lines; its curves have a thousand points. An entry is valid as long as its file has the
same size, time and inode. The file may be deleted: it is rewritten if it is missing, damaged or mostly stale.
"""

from __future__ import annotations

import contextlib
import json
import logging
import math
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from semiseg.dashboard.read.cache import RunReader
from semiseg.dashboard.read.files import is_regular
from semiseg.dashboard.read.metrics import Curve, Metrics
from semiseg.runs.files import replacing

log = logging.getLogger(__name__)

INDEX = ".report_index.npz"
KIND = "read_metrics"
VERSION = 1
ENOUGH = 50
"""Newly read files after which the index is rewritten; in a large study, a tenth of all files."""


def load_index(root: Path, reader: RunReader) -> None:
    """Load the curves in the index of a folder into a reader, once. A damaged index is ignored."""
    path = root / INDEX
    if root in reader.indexed or not is_regular(path):
        return
    reader.indexed.add(root)
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
            facts = json.loads(bytes(stored["facts"]))
            steps, values = stored["steps"], stored["values"]
        if facts["version"] != VERSION or steps.dtype != np.int64 or values.dtype != np.float64:
            raise ValueError("another version")
        found = [_entry(root, entry, steps, values) for entry in facts["files"]]
    except (
        OSError,
        ValueError,
        KeyError,
        TypeError,
        AttributeError,
        EOFError,
        MemoryError,
        zipfile.BadZipFile,
    ) as error:
        log.info("%s is not used (%s)", path, type(error).__name__)
        return
    for place, state, metrics in found:
        reader.know(KIND, place, state, (metrics, []))


def _entry(root: Path, entry: Any, steps: np.ndarray, values: np.ndarray) -> tuple[Path, tuple[int, ...], Metrics]:
    curves = {}
    for name, at_steps, at_values, count in entry["curves"]:
        curve = Curve(steps[at_steps : at_steps + count], values[at_values : at_values + count])
        if min(at_steps, at_values, count) < 0 or not len(curve.steps) == len(curve.values) == count:
            raise ValueError("a curve that does not exist")
        curves[str(name)] = curve
    last = {str(name): float(value) for name, value in entry["last"].items()}
    if not all(map(math.isfinite, last.values())):
        raise ValueError("a value that is not finite")
    last_step = None if entry["last_step"] is None else int(entry["last_step"])
    return root / entry["path"], tuple(map(int, entry["state"])), Metrics(curves, last, last_step)


def save_index(root: Path, reader: RunReader, files: Iterable[Path]) -> None:
    """Write the index of a folder if enough of these metrics.csv had to be read; silent if it cannot be written."""
    known = {file: reader.known(KIND, file) for file in files}
    fresh = sum(file in reader.read_anew for file in known)
    if fresh < max(ENOUGH, len(known) // 10):
        return
    steps, values, entries = _Column(np.int64), _Column(np.float64), []
    for file, (state, (metrics, problems)) in ((file, found) for file, found in known.items() if found):
        if state is None or problems:
            continue  # so that each report mentions the problem again
        seen: dict[bytes, int] = {}  # most columns have the same steps
        curves = []
        for name, curve in metrics.curves.items():
            raw = curve.steps.tobytes()
            if raw not in seen:
                seen[raw] = steps.add(curve.steps)
            curves.append((name, seen[raw], values.add(curve.values), len(curve.steps)))
        place = file.relative_to(root).as_posix()
        facts = {"last": metrics.last, "last_step": metrics.last_step, "curves": curves}
        entries.append({"path": place, "state": state, **facts})
    text = json.dumps({"version": VERSION, "files": entries}).encode()
    with contextlib.suppress(OSError), replacing(root / INDEX) as path, path.open("wb") as out:
        np.savez(out, facts=np.frombuffer(text, np.uint8), steps=steps.array(), values=values.array())
        reader.read_anew -= known.keys()


class _Column:
    """Concatenated arrays."""

    def __init__(self, dtype: type) -> None:
        self.dtype, self.parts, self.length = dtype, list[np.ndarray](), 0

    def add(self, part: np.ndarray) -> int:
        """Append an array; returns its start."""
        self.parts.append(part)
        self.length += len(part)
        return self.length - len(part)

    def array(self) -> np.ndarray:
        return np.concatenate([np.empty(0, self.dtype), *self.parts]).astype(self.dtype, copy=False)
