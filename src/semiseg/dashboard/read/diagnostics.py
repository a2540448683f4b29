"""diagnostics.json: details of the last validation of a run. The file is optional."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from semiseg.dashboard.read.files import Unreadable, is_regular, read_json
from semiseg.dashboard.read.values import integer, text

MAX_CLASSES = 1000
PARTS = ("image", "truth", "prediction", "errors")
"""Pictures of a worst image, files ``images/worst_<rank>_<part>.png``."""


@dataclass(frozen=True)
class WorstImage:
    """A validation image with many wrong pixels: its id, their share, and pictures by part."""

    image_id: str
    error: float
    pictures: dict[str, Path]


@dataclass(frozen=True)
class Diagnostics:
    """Counts over all labeled pixels of the validation set, for the reported network.

    Attributes:
        step: optimizer steps before that validation.
        confusion: (C, C) int64; row: label, column: prediction.
        counts, correct: (N,) int64; pixels, and correct pixels, by confidence in N equal bins of [0, 1].
        confidence: (N,) float64; sum of the confidences in each bin.
        worst: images by their share of wrong pixels, the worst first.
    """

    step: int
    network: str
    n_images: int
    classes: tuple[str, ...]
    confusion: np.ndarray
    counts: np.ndarray
    correct: np.ndarray
    confidence: np.ndarray
    worst: tuple[WorstImage, ...]


def read_diagnostics(path: Path, problems: list[str]) -> Diagnostics | None:
    """The file of a run folder; None if it is missing or unusable."""
    try:
        return _parse(read_json(path), path.parent / "images")
    except FileNotFoundError:
        return None
    except (Unreadable, ValueError, KeyError, TypeError, OverflowError) as error:
        problems.append(f"{path}: skipped, not in semiseg's format ({type(error).__name__}: {str(error)[:200]})")
        return None


def _parse(raw: dict[str, Any], images: Path) -> Diagnostics:
    classes = tuple(text(name) or "" for name in raw["classes"])
    if not 0 < len(classes) <= MAX_CLASSES:
        raise ValueError(f"{len(classes)} classes, expected 1 to {MAX_CLASSES}")
    confusion = np.array(raw["confusion"], dtype=np.int64)
    calibration = raw["calibration"]
    counts = np.array(calibration["pixels"], dtype=np.int64)
    correct = np.array(calibration["correct"], dtype=np.int64)
    confidence = np.array(calibration["confidence_sum"], dtype=np.float64)
    if (
        confusion.shape != (len(classes),) * 2
        or counts.ndim != 1
        or not counts.shape == correct.shape == confidence.shape
    ):
        raise ValueError("tables whose sizes do not fit together")
    if (confusion < 0).any() or (counts < 0).any() or (correct > counts).any() or not np.isfinite(confidence).all():
        raise ValueError("counts that are impossible")
    worst = []
    for rank, entry in enumerate(raw["worst"][:12]):
        pictures = {part: images / f"worst_{rank}_{part}.png" for part in PARTS}
        there = {part: picture for part, picture in pictures.items() if is_regular(picture)}
        worst.append(WorstImage(text(entry["id"]) or "", float(entry["error"]), there))
    return Diagnostics(
        step=integer(raw, "step") or 0,
        network=text(raw.get("network")) or "unknown",
        n_images=integer(raw, "n_images") or 0,
        classes=classes,
        confusion=confusion,
        counts=counts,
        correct=correct,
        confidence=confidence,
        worst=tuple(worst),
    )
