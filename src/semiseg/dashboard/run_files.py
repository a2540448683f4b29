"""Reads the files of a run folder. What is missing, damaged or half written never raises: it is said in a line."""

from __future__ import annotations

import csv
import io
import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml

# libyaml is ten times faster where PyYAML was built with it; a sweep has hundreds of files.
_YamlLoader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@dataclass(frozen=True)
class Curve:
    """A scalar over training: ``steps`` (N,) int64, ascending; ``values`` (N,) float64, NaN if not finite."""

    steps: np.ndarray
    values: np.ndarray


@dataclass(frozen=True)
class Result:
    """What ``result.json`` says. A field that the file lacks, or that is no finite number there, is None.

    mIoU and IoU are in [0, 1], ``crop_size`` is (height, width) in pixels, memory in MB, time in seconds.
    """

    status: str
    error: str | None
    command: str | None
    started: str | None
    finished: str | None
    n_labeled: int | None
    n_unlabeled: int | None
    n_val: int | None
    labeled_ids_sha256: str | None
    official: str | None
    steps: int | None
    world_size: int | None
    batch_labeled: int | None
    batch_unlabeled: int | None
    crop_size: tuple[int, int] | None
    precision: str | None
    miou_best: float | None
    miou_best_step: int | None
    miou_last: float | None
    miou_last_student: float | None
    miou_last_teacher: float | None
    iou_per_class: dict[str, float | None]
    seconds_training: float | None
    seconds_validation: float | None
    images_per_second: float | None
    peak_memory_mb: float | None
    versions: dict[str, str]
    git_commit: str | None
    git_dirty: bool


@dataclass(frozen=True)
class Progress:
    """What ``progress.json`` says: the last sign of life. Times are seconds, ``time`` is since the epoch."""

    step: int
    max_steps: int | None
    doing: str
    seconds_left: float | None
    time: float
    host: str
    pid: int
    device: str | None


def read_result(path: Path, problems: list[str]) -> tuple[Result | None, dict[str, Any], str]:
    """The parsed result, the raw fields that identify the run, and the status."""
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(raw, dict):
            raise ValueError("not a JSON object")
        integer(raw, "seed")
        result = _parse_result(raw)
    except FileNotFoundError:
        return None, {}, "unfinished"
    except (OSError, ValueError) as error:
        problems.append(f"{path}: skipped, cannot be read as a result ({error})")
        return None, {}, "unreadable"
    return result, raw, result.status


def _parse_result(raw: dict[str, Any]) -> Result:
    miou, git = _mapping(raw, "miou"), _mapping(raw, "git")
    iou = _mapping(raw, "iou_per_class")
    status = text(raw.get("status"))
    if status not in ("completed", "interrupted", "failed"):
        raise ValueError(f"'status' is {raw.get('status')!r}, expected completed, interrupted or failed")
    texts = ("error", "command", "started", "finished", "labeled_ids_sha256", "official", "precision")
    integers = (
        "n_labeled",
        "n_unlabeled",
        "n_val",
        "steps",
        "world_size",
        "batch_labeled",
        "batch_unlabeled",
    )
    numbers = ("seconds_training", "seconds_validation", "images_per_second", "peak_memory_mb")
    fields: dict[str, Any] = {key: text(raw.get(key)) for key in texts}
    fields |= {key: integer(raw, key) for key in integers}
    fields |= {key: _number(raw, key) for key in numbers}
    return Result(
        status=status,
        crop_size=_size(raw.get("crop_size")),
        miou_best=_number(miou, "best"),
        miou_best_step=integer(miou, "best_step"),
        miou_last=_number(miou, "last"),
        miou_last_student=_number(miou, "last_student"),
        miou_last_teacher=_number(miou, "last_teacher"),
        iou_per_class={name: _number(iou, name) for name in iou},
        versions={name: str(version) for name, version in _mapping(raw, "versions").items()},
        git_commit=text(git.get("commit")),
        git_dirty=bool(git.get("dirty")),
        **fields,
    )


def read_curves(path: Path, problems: list[str]) -> dict[str, Curve]:
    """Curves by column of a wide CSV. Rows of one step are merged; of repeated values the later counts."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        problems.append(f"{path}: skipped, cannot be read ({error})")
        return {}
    text = text[: text.rfind("\n") + 1]  # a line without its end is still being written
    rows = csv.reader(io.StringIO(text))
    header = next(rows, [])
    if not header:
        return {}
    if "step" not in header:
        problems.append(f"{path}: skipped, its first line names no 'step' column")
        return {}
    at = header.index("step")
    columns: dict[str, dict[int, float]] = {name: {} for name in header if name != "step"}
    bad_lines: list[int] = []
    try:
        for row in rows:
            try:
                step = int(float(row[at]))
                cells = {k: float(v) for i, (k, v) in enumerate(zip(header, row, strict=True)) if v and i != at}
            except (ValueError, IndexError, OverflowError):
                bad_lines.append(rows.line_num)
                continue
            for name, value in cells.items():
                columns[name][step] = value
    except csv.Error as error:
        problems.append(f"{path}: read up to line {rows.line_num} only ({error})")
    if bad_lines:
        problems.append(f"{path}: {len(bad_lines)} damaged line(s) skipped, the first is line {bad_lines[0]}")
    return {name: _curve(by_step) for name, by_step in columns.items() if by_step}


def _curve(by_step: dict[int, float]) -> Curve:
    steps = sorted(by_step)
    values = np.array([by_step[s] for s in steps], dtype=np.float64)
    return Curve(np.array(steps, dtype=np.int64), np.where(np.isfinite(values), values, np.nan))


def read_progress(path: Path) -> Progress | None:
    """The last sign of life; None where there is none that can be read."""
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
        return Progress(
            step=int(raw["step"]),
            max_steps=integer(raw, "max_steps"),
            doing=str(raw.get("doing", "train")),
            seconds_left=_number(raw, "seconds_left"),
            time=float(raw["time"]),
            host=str(raw["host"]),
            pid=int(raw["pid"]),
            device=text(raw.get("device")),
        )
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return None  # older runs have none, and the next sign replaces a bad one


def read_classes(path: Path, problems: list[str]) -> tuple[tuple[str, tuple[int, int, int]], ...]:
    """Names and colors of the classes, from the legend of the panels."""
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
        colors = [(int(r), int(g), int(b)) for r, g, b in raw["palette"]]
        if not all(0 <= value <= 255 for color in colors for value in color):
            raise ValueError("a color value is outside 0..255")
        return tuple(zip((str(name) for name in raw["classes"]), colors, strict=True))
    except FileNotFoundError:
        return ()
    except (OSError, ValueError, KeyError, TypeError) as error:
        problems.append(f"{path}: skipped, expected classes and one [R, G, B] each ({error})")
        return ()


def read_yaml(path: Path) -> object:
    """What a YAML file holds; None where it cannot be read."""
    try:
        return yaml.load(path.read_text(encoding="utf-8"), Loader=_YamlLoader)
    except (OSError, ValueError, yaml.YAMLError):
        return None  # config.yaml only marks the folder and overrides only explain it: neither is needed


def text(value: object) -> str | None:
    """A value as text; None for nothing."""
    return str(value) if value not in (None, "") else None


def _mapping(raw: dict[str, Any], key: str) -> dict[str, Any]:
    value = raw.get(key)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise ValueError(f"'{key}' is not an object")
    return value


def _number(raw: dict[str, Any], key: str) -> float | None:
    value = raw.get(key)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"'{key}' is not a number")
    return float(value) if math.isfinite(value) else None


def integer(raw: dict[str, Any], key: str) -> int | None:
    """A number without its fraction. Raises ValueError for what is no number."""
    value = _number(raw, key)
    return None if value is None else int(value)


def whole(value: object) -> int | None:
    """The value where it is an integer; None else."""
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _size(value: object) -> tuple[int, int] | None:
    if value is None:
        return None
    pair = [value, value] if isinstance(value, int) else value
    if not isinstance(pair, list) or len(pair) != 2 or not all(isinstance(side, int) for side in pair):
        raise ValueError("'crop_size' is neither a number nor [height, width]")
    return pair[0], pair[1]
