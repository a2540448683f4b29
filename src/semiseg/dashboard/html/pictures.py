"""Example images of runs: which ones are shown, and how they are embedded in the page."""

from __future__ import annotations

import base64
import functools
import hashlib
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from semiseg.dashboard.read.run import Run

MAX_BYTES = 3_500_000  # all images of a page, as base64: with charts and text the page stays below 5 MB
_SIDES = (320, 240, 160, 96)  # longest side in pixels: the first size at which all images fit
_MASKS = ("truth", "prediction", "pseudo", "errors")
_ZOOM_SIDES = (640, 480, 320)  # for pictures that can be enlarged
_ZOOM_BYTES = 2_500_000

PARTS = ("image", "pseudo", "confidence", "truth")  # of an unlabeled image, in the order to show them
MAX_ROWS = 4  # of validation images, per section
MAX_UNLABELED = 2  # unlabeled images per method


@dataclass(frozen=True)
class Row:
    """One validation image: the image, the ground truth, and the prediction of each method."""

    image: Path
    truth: Path | None
    predictions: dict[str, Path]


@dataclass(frozen=True)
class PseudoRow:
    """One unlabeled image of one method, with the parts that the run wrote, by name."""

    label: str
    parts: dict[str, Path]


def validation_rows(shown: dict[str, Run]) -> list[Row]:
    """Align the predictions of several runs, one per label, for the images they share.

    Two runs share an image if number and file are the same, so that only predictions on the same picture are shown
    side by side.
    """
    rows: dict[tuple[int, str], Row] = {}
    for label, run in shown.items():
        for index in _indices(run, "val"):
            image = run.images.get(f"val_{index}_image")
            prediction = run.images.get(f"val_{index}_prediction")
            if image is None or prediction is None:
                continue
            row = rows.setdefault((index, _digest(image)), Row(image, run.images.get(f"val_{index}_truth"), {}))
            row.predictions[label] = prediction
    by_index = [rows[key] for key in sorted(rows)]
    # Rows shared by most methods come first; sorted() is stable, so ties keep the order of indices.
    return sorted(by_index, key=lambda row: -len(row.predictions))[:MAX_ROWS]


def pseudo_rows(shown: dict[str, Run]) -> list[PseudoRow]:
    """The unlabeled images of each run with pseudo-labels, confidence and, if enabled, ground truth."""
    rows = []
    for label, run in shown.items():
        found = [index for index in _indices(run, "unlabeled") if f"unlabeled_{index}_pseudo" in run.images]
        for index in found[:MAX_UNLABELED]:
            stems = {part: f"unlabeled_{index}_{part}" for part in PARTS}
            rows.append(PseudoRow(label, {p: run.images[stem] for p, stem in stems.items() if stem in run.images}))
    return rows


def _indices(run: Run, kind: str) -> list[int]:
    return sorted({int(stem.split("_")[1]) for stem in run.images if stem.startswith(f"{kind}_")})


def _digest(path: Path) -> str:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError:
        return str(path)


def zoomable(paths: Sequence[Path]) -> dict[Path, str]:
    """Data URIs of larger versions, like `thumbnails`."""
    return thumbnails(paths, _ZOOM_BYTES, _ZOOM_SIDES)


def thumbnails(paths: Sequence[Path], max_bytes: int = MAX_BYTES, sides: Sequence[int] = _SIDES) -> dict[Path, str]:
    """Data URIs of the images, all downscaled to the largest size at which they fit into ``max_bytes`` together.

    If even the smallest size is too large, the first images are kept. Unreadable images are skipped.
    """
    fitting: dict[Path, str] = {}
    for side in sides:
        fitting, total = {}, 0
        for path in dict.fromkeys(paths):
            uri = _thumbnail(path, side)
            total += len(uri or "")
            if total > max_bytes:
                break
            if uri:
                fitting[path] = uri
        else:
            break
    return fitting


def _thumbnail(path: Path, side: int) -> str | None:
    try:
        return _encoded(path, side, path.stat().st_mtime_ns)
    except OSError:
        return None


@functools.lru_cache(maxsize=4096)  # a page that is rewritten during a study encodes only new images
def _encoded(path: Path, side: int, changed: int) -> str | None:
    """Masks keep their exact colors (nearest pixel, PNG); pictures become small JPEG."""
    is_mask = path.stem.endswith(_MASKS)
    try:
        with Image.open(path) as opened:
            image = opened.convert("RGB")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):  # what Pillow raises for damaged files
        return None
    scale = min(1.0, side / max(image.size))
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    image = image.resize(size, Image.Resampling.NEAREST if is_mask else Image.Resampling.LANCZOS)
    out = io.BytesIO()
    if is_mask:
        image.save(out, "PNG", optimize=True)
    else:
        image.save(out, "JPEG", quality=82)
    kind = "png" if is_mask else "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(out.getvalue()).decode('ascii')}"
