"""result.json: what a run came to. Field names are fixed; dashboards and scripts rely on them."""

from __future__ import annotations

import json
import math
import os
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, TypedDict

import semiseg


class RunResult(TypedDict):
    """The outcome of a run. mIoU and IoU in [0, 1]; times in seconds; memory in MiB."""

    status: str
    error: str | None
    data: str
    protocol: str
    partition: str
    method: str
    model: str
    seed: int
    study: str
    command: str
    started: str
    finished: str
    n_labeled: int
    n_unlabeled: int
    n_val: int
    labeled_ids_sha256: str
    official: str | None
    steps: int
    world_size: int
    batch_labeled: int
    batch_unlabeled: int
    crop_size: list[int]
    precision: str
    miou: dict[str, Any]
    iou_per_class: dict[str, float | None]
    classes_counted: int
    seconds_training: float
    seconds_validation: float
    images_per_second: float
    peak_memory_mb: float
    versions: dict[str, str]
    git: dict[str, Any]


def read_result(folder: Path) -> RunResult | None:
    """The result of a run folder; None when there is none or it is damaged."""
    try:
        return json.loads((folder / "result.json").read_text())
    except (OSError, ValueError):
        return None


def write_json(path: Path, value: Any) -> None:
    """Write beside and move over: never half a file under the final name."""
    beside = path.with_suffix(f".tmp{os.getpid()}")
    beside.write_text(json.dumps(value, indent=1) + "\n")
    os.replace(beside, path)


def iou_or_none(value: float | None) -> float | None:
    """JSON has no NaN: an undefined score is null."""
    return None if value is None or math.isnan(value) else value


def package_versions() -> dict[str, str]:
    """Versions of what computed the result."""
    versions = {"python": platform.python_version(), "semiseg": semiseg.__version__}
    for package in (
        "torch",
        "torchvision",
        "pytorch-lightning",
        "torchmetrics",
        "timm",
        "albumentations",
        "hydra-core",
    ):
        try:
            versions[package.replace("-", "_")] = version(package)
        except PackageNotFoundError:
            continue
    return versions


def git_state() -> dict[str, Any]:
    """Commit of the code and whether it was changed; nulls when it is no checkout."""
    here = Path(__file__).resolve().parent

    def git(*args: str) -> str | None:
        try:
            done = subprocess.run(["git", *args], cwd=here, capture_output=True, text=True, timeout=10, check=True)
        except (OSError, subprocess.SubprocessError):
            return None
        return done.stdout.strip()

    # An installed package may lie inside somebody else's repository: only a checkout of ours counts.
    if git("ls-files", "--error-unmatch", "result.py") is None:
        return {"commit": None, "dirty": None}
    return {
        "commit": git("rev-parse", "HEAD"),
        "dirty": bool(git("status", "--porcelain", "--untracked-files=no")),
    }
