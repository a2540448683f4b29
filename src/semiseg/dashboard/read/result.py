"""result.json for the report. Old files lack fields; missing or damaged fields never raise."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from semiseg.arguments import mask_text
from semiseg.dashboard.read.files import Unreadable, read_json
from semiseg.dashboard.read.values import fraction, integer, lines, number, size, text
from semiseg.runs.result import RunResult, check_result


@dataclass(frozen=True)
class Result:
    """The contents of ``result.json``. A field that is missing or not a finite number is None.

    mIoU and IoU are in [0, 1], ``crop_size`` is (height, width) in pixels, memory in MB, time in seconds.
    The fingerprints are "" for runs that did not record them.
    """

    status: str
    error: str | None
    stopped_early: str | None
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
    pool_fingerprint: str
    data_fingerprint: str
    validation_fingerprint: str
    data_warnings: tuple[str, ...]
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


def read_result(path: Path, problems: list[str]) -> tuple[Result | None, dict[str, Any], str]:
    """The parsed result, the raw fields that identify the run, and the status."""
    try:
        raw = read_json(path)
        if isinstance(raw.get("crop_size"), int):  # older runs wrote a square this way
            raw["crop_size"] = [raw["crop_size"]] * 2
        said = check_result(raw)
        integer(said, "seed")
        result = _bounded(said, raw)
    except FileNotFoundError:
        return None, {}, "unfinished"
    except (Unreadable, ValueError) as error:
        problems.append(f"{path}: skipped, cannot be read as a result ({error})")
        return None, {}, "unreadable"
    return result, dict(said), result.status


def _bounded(said: RunResult, raw: Mapping[str, Any]) -> Result:
    """The fields shown in the report, limited to ranges that its sums and tables can handle."""
    miou, git, iou = said["miou"], said["git"], said["iou_per_class"]
    texts = ("started", "finished", "labeled_ids_sha256", "official", "precision")
    integers = (
        "folds",
        "fold",
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
    fields |= {
        key: mask_text(line) if (line := text(raw.get(key))) else None for key in ("error", "stopped_early", "command")
    }
    fields |= {key: integer(said, key) for key in integers}
    fields |= {key: number(said, key) for key in numbers}
    return Result(
        status=said["status"],
        data_fingerprint=text(said["data_fingerprint"]) or "",
        validation_fingerprint=text(said["validation_fingerprint"]) or "",
        pool_fingerprint=text(said["pool_fingerprint"]) or "",
        data_warnings=lines(said["data_warnings"]),
        crop_size=size(said["crop_size"]),
        miou_best=fraction(miou, "best"),
        miou_best_step=integer(miou, "best_step"),
        miou_last=fraction(miou, "last"),
        miou_last_student=fraction(miou, "last_student"),
        miou_last_teacher=fraction(miou, "last_teacher"),
        iou_per_class={text(name) or "": fraction(iou, name) for name in iou},
        versions={text(name) or "": text(version) or "" for name, version in said["versions"].items()},
        git_commit=text(git["commit"]),
        git_dirty=bool(git["dirty"]),
        **fields,
    )
