"""Finds run folders and reads what they hold. Knows files, not training: no torch here."""

from __future__ import annotations

import csv
import io
import json
import logging
import math
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from semiseg.errors import InputError

logger = logging.getLogger(__name__)

# libyaml is ten times faster where PyYAML was built with it; a sweep has hundreds of files.
_YamlLoader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

_IMAGE_NAME = re.compile(r"(?:val|unlabelled)_\d+_[a-z]+")
_SEED_FOLDER = re.compile(r"seed_(\d+)(?:_(.+))?")


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
class Run:
    """One run folder.

    Attributes:
        folder: where it lies, as reached from the directory that was asked for.
        status: "completed", "interrupted", "failed", "unfinished" (no result) or "unreadable" (damaged).
        variant: the suffix of the folder's name that stands for its other overrides; "" when there are none.
        max_steps: steps it should make, from its configuration.
        images: panels by file stem, such as "val_0_prediction".
        classes: (name, (R, G, B)) of every class, from ``images/classes.json``.
        problems: what could not be read, one line each.
    """

    folder: Path
    status: str
    study: str
    data: str
    partition: str
    method: str
    model: str
    seed: int | None
    variant: str
    overrides: tuple[str, ...]
    max_steps: int | None
    result: Result | None
    curves: dict[str, Curve]
    images: dict[str, Path]
    classes: tuple[tuple[str, tuple[int, int, int]], ...]
    problems: tuple[str, ...]

    @property
    def last_step(self) -> int | None:
        """The last step that logged anything; None when nothing did."""
        return max((int(curve.steps[-1]) for curve in self.curves.values()), default=None)


def find_runs(dirs: Sequence[Path]) -> list[Run]:
    """All runs at or below ``dirs``, sorted by folder, each once. What cannot be read is logged as a warning.

    Raises:
        InputError: if a directory does not exist, or no run lies below any of them.
    """
    if not dirs:
        raise InputError("no folder given to report on: name one or more folders that hold runs, such as 'runs'")
    runs: dict[Path, Run] = {}
    for root in dirs:
        if not root.is_dir():
            raise InputError(f"{root}: no such folder; give a folder that holds runs")
        for folder, config in _run_folders(root):
            if folder.resolve() not in runs:
                runs[folder.resolve()] = read_run(folder, config)
    if not runs:
        named = ", ".join(str(root) for root in dirs)
        raise InputError(f"no run found below {named}: a run folder holds a config.yaml, made by 'semiseg train'")
    for run in runs.values():
        for problem in run.problems:
            logger.warning("%s", problem)
    return sorted(runs.values(), key=lambda run: run.folder.as_posix())


def _run_folders(root: Path) -> Iterator[tuple[Path, dict[str, Any]]]:
    for name, subfolders, files in os.walk(root):
        # .hydra and wandb folders hold a config.yaml of their own.
        subfolders[:] = sorted(s for s in subfolders if not s.startswith(".") and s != "wandb")
        if "config.yaml" not in files:
            continue
        config = _read_yaml(Path(name, "config.yaml"))
        if isinstance(config, dict) and "defaults" in config:
            continue  # the configuration tree itself, found because somebody reports on "."
        yield Path(name), config if isinstance(config, dict) else {}
        subfolders.clear()  # nothing below a run is another run


def read_run(folder: Path, config: dict[str, Any]) -> Run:
    """Read one run folder; ``config`` is its parsed ``config.yaml``. Never raises for what the files hold."""
    problems: list[str] = []
    result, identity, status = _read_result(folder / "result.json", problems)
    # Without a result the place says what it is: <study>/<data>/<partition>/<method>/<model>/seed_<n>.
    parts = ("", "", "", "", "", *folder.absolute().parts)
    place = dict(zip(("study", "data", "partition", "method", "model"), parts[-6:-1]))
    seed_and_variant = _SEED_FOLDER.fullmatch(folder.name)
    who = {key: _text(identity.get(key)) or _text(place[key]) or "unknown" for key in place}
    seed = _integer(identity, "seed") if "seed" in identity else _whole(config.get("seed"))
    if seed is None and seed_and_variant:
        seed = int(seed_and_variant[1])
    overrides = _read_yaml(folder / "overrides.yaml")
    return Run(
        folder=folder,
        status=status,
        **who,
        seed=seed,
        variant=(seed_and_variant[2] or "") if seed_and_variant else "",
        overrides=tuple(str(line) for line in overrides) if isinstance(overrides, list) else (),
        max_steps=_whole(config.get("max_steps")),
        result=result,
        curves=_read_curves(folder / "metrics.csv", problems),
        images={p.stem: p for p in sorted((folder / "images").glob("*.png")) if _IMAGE_NAME.fullmatch(p.stem)},
        classes=_read_classes(folder / "images" / "classes.json", problems),
        problems=tuple(problems),
    )


def _read_result(path: Path, problems: list[str]) -> tuple[Result | None, dict[str, Any], str]:
    """The parsed result, the raw fields that identify the run, and the status."""
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(raw, dict):
            raise ValueError("not a JSON object")
        _integer(raw, "seed")
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
    status = _text(raw.get("status"))
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
    fields: dict[str, Any] = {key: _text(raw.get(key)) for key in texts}
    fields |= {key: _integer(raw, key) for key in integers}
    fields |= {key: _number(raw, key) for key in numbers}
    return Result(
        status=status,
        crop_size=_size(raw.get("crop_size")),
        miou_best=_number(miou, "best"),
        miou_best_step=_integer(miou, "best_step"),
        miou_last=_number(miou, "last"),
        miou_last_student=_number(miou, "last_student"),
        miou_last_teacher=_number(miou, "last_teacher"),
        iou_per_class={name: _number(iou, name) for name in iou},
        versions={name: str(version) for name, version in _mapping(raw, "versions").items()},
        git_commit=_text(git.get("commit")),
        git_dirty=bool(git.get("dirty")),
        **fields,
    )


def _read_curves(path: Path, problems: list[str]) -> dict[str, Curve]:
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


def _read_classes(path: Path, problems: list[str]) -> tuple[tuple[str, tuple[int, int, int]], ...]:
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
        colours = [(int(r), int(g), int(b)) for r, g, b in raw["palette"]]
        if not all(0 <= value <= 255 for colour in colours for value in colour):
            raise ValueError("a colour value is outside 0..255")
        return tuple(zip((str(name) for name in raw["classes"]), colours, strict=True))
    except FileNotFoundError:
        return ()
    except (OSError, ValueError, KeyError, TypeError) as error:
        problems.append(f"{path}: skipped, expected classes and one [R, G, B] each ({error})")
        return ()


def _read_yaml(path: Path) -> object:
    try:
        return yaml.load(path.read_text(encoding="utf-8"), Loader=_YamlLoader)
    except (OSError, ValueError, yaml.YAMLError):
        return None  # config.yaml only marks the folder and overrides only explain it: neither is needed


def _text(value: object) -> str | None:
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


def _integer(raw: dict[str, Any], key: str) -> int | None:
    value = _number(raw, key)
    return None if value is None else int(value)


def _whole(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _size(value: object) -> tuple[int, int] | None:
    if value is None:
        return None
    pair = [value, value] if isinstance(value, int) else value
    if not isinstance(pair, list) or len(pair) != 2 or not all(isinstance(side, int) for side in pair):
        raise ValueError("'crop_size' is neither a number nor [height, width]")
    return pair[0], pair[1]
