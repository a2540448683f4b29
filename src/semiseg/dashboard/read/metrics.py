"""Reads metrics.csv as curves, in a stream: memory does not grow with the number of lines."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

import numpy as np

from semiseg.dashboard.read.files import is_regular

MAX_POINTS = 1000  # per curve; a longer one is averaged in bins of steps
CURVES = ("val/miou", "train/loss", "train/kept_ratio", "pseudo/accuracy", "pseudo/coverage")
CLASS_IOU = "val/iou/"
LAST_ONLY = ("pseudo/precision/", "pseudo/recall/", "train/pseudo_share/")
"""Per-class columns of which the page shows only the last value."""

_CHUNK = 20_000  # lines


@dataclass(frozen=True)
class Curve:
    """A scalar over training: ``steps`` (N,) int64, ascending; ``values`` (N,) float64, NaN if not finite."""

    steps: np.ndarray
    values: np.ndarray


@dataclass(frozen=True)
class Metrics:
    """The contents of a metrics.csv that the page shows.

    Attributes:
        curves: by column.
        last: the last value of each column of `LAST_ONLY`.
        last_step: the highest step of any line; None if there are no lines.
    """

    curves: dict[str, Curve] = field(default_factory=dict)
    last: dict[str, float] = field(default_factory=dict)
    last_step: int | None = None


def read_metrics(path: Path, problems: list[str]) -> Metrics:
    """Curves of a wide CSV. Rows of the same step are merged; the later of repeated values counts."""
    if not path.exists():
        return Metrics()
    if not is_regular(path):
        problems.append(f"{path}: skipped, not a regular file")
        return Metrics()
    try:
        # An invalid UTF-8 byte damages only its own line.
        with path.open(encoding="utf-8", errors="replace", newline="") as file:
            return _read(path, csv.reader(_whole_lines(file)), problems)
    except OSError as error:
        problems.append(f"{path}: skipped, cannot be read ({error.strerror})")
        return Metrics()


def _whole_lines(file: Iterator[str]) -> Iterator[str]:
    """Complete lines: one without a line end is still being written."""
    return (line for line in file if line.endswith("\n"))


def _read(path: Path, rows: Iterator[list[str]], problems: list[str]) -> Metrics:
    try:
        header = next(rows, [])
    except csv.Error as error:
        problems.append(f"{path}: skipped, cannot be read ({error})")
        return Metrics()
    if not header:
        return Metrics()
    if "step" not in header:
        problems.append(f"{path}: skipped, its first line names no 'step' column")
        return Metrics()
    table = _Table(header)
    try:
        while chunk := list(islice(rows, _CHUNK)):
            table.add(chunk)
    except csv.Error as error:
        problems.append(f"{path}: read only in part ({error})")
    if table.n_bad:
        problems.append(f"{path}: {table.n_bad} damaged line(s) skipped, the first is line {table.first_bad}")
    return table.metrics()


class _Table:
    """The columns that the page shows, filled chunk by chunk."""

    def __init__(self, header: list[str]) -> None:
        self.header = header
        self.step_column = header.index("step")
        self.columns = {i: _Column() for i, n in enumerate(header) if n in CURVES or n.startswith(CLASS_IOU)}
        self.last_columns = [i for i, name in enumerate(header) if name.startswith(LAST_ONLY)]
        self.last: dict[str, float] = {}
        self.last_step: int | None = None
        self.n_bad = self.first_bad = 0
        self._line = 1  # the header

    def add(self, rows: list[list[str]]) -> None:
        first, self._line = self._line + 1, self._line + len(rows)
        try:
            self._add(rows)
        except ValueError:  # rare: find the unusable lines
            good = []
            for line, row in enumerate(rows, first):
                try:
                    self._check(row)
                    good.append(row)
                except ValueError:
                    self.n_bad += 1
                    self.first_bad = self.first_bad or line
            if good:
                self._add(good)

    def _check(self, row: list[str]) -> None:
        _steps([row[self.step_column] if len(row) == len(self.header) else ""])
        for i in (*self.columns, *self.last_columns):
            float(row[i] or 0)

    def _add(self, rows: list[list[str]]) -> None:
        by_column = list(zip(*rows, strict=True))
        if len(by_column) != len(self.header):
            raise ValueError("a line with another number of columns")
        steps = _steps(by_column[self.step_column])
        parsed = {i: _filled(steps, by_column[i]) for i in self.columns}
        last = {self.header[i]: float(v) for i in self.last_columns if (v := _last_filled(by_column[i]))}
        for i, (at, values) in parsed.items():  # nothing is stored before everything has been parsed
            self.columns[i].add(at, values)
        self.last |= last
        self.last_step = max(int(steps.max()), self.last_step or 0)

    def metrics(self) -> Metrics:
        found = {self.header[i]: column.curve() for i, column in self.columns.items()}
        curves = {name: curve for name, curve in found.items() if len(curve.steps)}
        shared: dict[bytes, np.ndarray] = {}  # most columns have the same steps: store them once
        for name, curve in curves.items():
            curves[name] = Curve(shared.setdefault(curve.steps.tobytes(), curve.steps), curve.values)
        return Metrics(curves, {k: v for k, v in self.last.items() if np.isfinite(v)}, self.last_step)


def _steps(cells: tuple[str, ...] | list[str]) -> np.ndarray:
    steps = np.array(cells, dtype=np.float64)
    if not np.all(np.abs(steps) < 2**53):  # NaN fails as well
        raise ValueError("a step that is not a number")
    return steps.astype(np.int64)


def _filled(steps: np.ndarray, cells: tuple[str, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Steps and values of the non-empty cells."""
    if all(cells):
        return steps, np.array(cells, dtype=np.float64)
    filled = [i for i, cell in enumerate(cells) if cell]
    return steps[filled], np.array([cells[i] for i in filled], dtype=np.float64)


def _last_filled(cells: tuple[str, ...]) -> str:
    return next((cell for cell in reversed(cells) if cell), "")


class _Column:
    """Sums over bins of steps; the bin width doubles whenever there are too many bins.

    A bin starts at a multiple of its width (a power of two), so that curves thinned by different factors still have
    steps in common.
    """

    def __init__(self) -> None:
        self.width = 1
        self.steps: np.ndarray = np.empty(0, np.int64)
        self.sums: np.ndarray = np.empty(0)
        self.counts: np.ndarray = np.empty(0)

    def add(self, steps: np.ndarray, values: np.ndarray) -> None:
        if not len(steps):
            return
        steps = np.concatenate([self.steps, steps])
        sums = np.concatenate([self.sums, np.where(np.isfinite(values), values, np.nan)])
        counts = np.concatenate([self.counts, np.ones(len(values))])
        if self.width == 1:  # the later of repeated values at one step counts
            steps, last = np.unique(steps[::-1], return_index=True)
            sums, counts = sums[::-1][last], counts[::-1][last]
        while True:
            bins, member = np.unique(steps // self.width * self.width, return_inverse=True)
            if len(bins) <= MAX_POINTS:
                break
            self.width *= 2
        self.steps = bins
        self.sums, self.counts = np.bincount(member, sums), np.bincount(member, counts)

    def curve(self) -> Curve:
        return Curve(self.steps, self.sums / np.maximum(self.counts, 1))
