"""result.json: the outcome of a run, with its only schema and reader. Does not import torch.

Field names must not change: dashboards and scripts rely on them.
"""

from __future__ import annotations

import functools
import json
import math
from pathlib import Path
from typing import Any, Literal, get_type_hints

from pydantic import ConfigDict, TypeAdapter, ValidationError
from typing_extensions import TypedDict  # pydantic needs it before Python 3.12

from semiseg.data.readers.listing import file_is_there
from semiseg.runs.environment import GitState


class Scores(TypedDict):
    """mIoU in [0, 1]; ``last_*`` are those of the last validation."""

    best: float | None
    best_step: int | None
    last: float | None
    last_student: float | None
    last_teacher: float | None


class RunResult(TypedDict):
    """The outcome of a run. mIoU and IoU in [0, 1]; times in seconds; memory in MiB.

    A field that is missing in an older file, or is not a finite number there, is None.
    """

    status: Literal["completed", "interrupted", "failed"]
    error: str | None
    stopped_early: str | None
    data: str | None
    protocol: str | None
    partition: str | None
    method: str | None
    model: str | None
    seed: int | None
    study: str | None
    command: str | None
    started: str | None
    finished: str | None
    n_labeled: int | None
    n_unlabeled: int | None
    n_val: int | None
    labeled_ids_sha256: str | None
    official: str | None
    folds: int | None
    fold: int | None
    pool_fingerprint: str | None
    data_fingerprint: str | None
    validation_fingerprint: str | None
    data_warnings: list[str]
    pseudo_labels: dict[str, Any] | None
    steps: int | None
    world_size: int | None
    batch_labeled: int | None
    batch_unlabeled: int | None
    crop_size: list[int] | None
    precision: str | None
    miou: Scores
    iou_per_class: dict[str, float | None]
    classes_counted: int | None
    seconds_training: float | None
    seconds_validation: float | None
    images_per_second: float | None
    peak_memory_mb: float | None
    versions: dict[str, str]
    git: GitState


EMPTY: dict[str, Any] = {
    "miou": dict.fromkeys(Scores.__annotations__),
    "iou_per_class": {},
    "data_warnings": [],
    "versions": {},
    "git": dict.fromkeys(GitState.__annotations__),
}
"""Defaults of the container fields, for files without them."""


class DamagedResult(ValueError):
    """An invalid result.json; the message gives the reason, without the path."""


def read_result(folder: Path) -> RunResult | None:
    """The result of a run folder; None if it is missing or damaged."""
    try:
        return parse_result(folder / "result.json")
    except (FileNotFoundError, DamagedResult):
        return None


def parse_result(path: Path) -> RunResult:
    """Read a result.json.

    Raises:
        FileNotFoundError: the file does not exist.
        DamagedResult: it is not a valid result.
    """
    try:
        file_is_there(path)
        raw = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise
    except (OSError, ValueError, RecursionError) as e:
        raise DamagedResult(f"cannot be read: {e}") from e
    return check_result(raw)


def check_result(raw: object) -> RunResult:
    """The result from parsed JSON, with all fields present and of the right type.

    Raises:
        DamagedResult: it is not a valid result.
    """
    if not isinstance(raw, dict):
        raise DamagedResult(f"expected a JSON object, found {type(raw).__name__}")
    found: dict[str, Any] = {}
    for key, adapter in _adapters().items():
        value = _finite(raw.get(key))
        try:
            if isinstance(EMPTY.get(key), dict) and key != "iou_per_class":  # those with nested fields
                value = {**EMPTY[key], **(value or {})}
            found[key] = adapter.validate_python(EMPTY[key] if value is None and key in EMPTY else value)
        except (ValidationError, TypeError) as e:
            reason = e.errors()[0]["msg"] if isinstance(e, ValidationError) else "expected an object"
            raise DamagedResult(f"'{key}' is {str(raw.get(key))[:80]!r}: {reason}") from e
    return found  # type: ignore[return-value]


def validation_share(training: float | None, validation: float | None) -> float | None:
    """Share of the run time spent in validation, in [0, 1]; None if unknown."""
    both = (training or 0.0) + (validation or 0.0)
    return validation / both if validation is not None and both > 0 else None


def iou_or_none(value: float | None) -> float | None:
    """JSON has no NaN: an undefined score is null."""
    return None if value is None or math.isnan(value) else value


@functools.cache
def _adapters() -> dict[str, TypeAdapter[Any]]:
    loose = ConfigDict(coerce_numbers_to_str=True)
    return {
        key: TypeAdapter(hint) if hint in (Scores, GitState) else TypeAdapter(hint, config=loose)
        for key, hint in get_type_hints(RunResult).items()
    }


def _finite(value: Any) -> Any:
    """The value with every NaN and infinity replaced by None."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {k: _finite(v) for k, v in value.items()}
    return [_finite(v) for v in value] if isinstance(value, list) else value
