"""A page of images with overlaid masks, to verify that labels match their class names."""

from __future__ import annotations

import base64
import functools
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from PIL import Image

from semiseg.data.batch import IGNORE
from semiseg.data.checking.report import Report
from semiseg.data.datasets.base import SegmentationDataset
from semiseg.data.readers.bands import as_rgb
from semiseg.errors import InputError

WIDTH = 360  # pixels of a picture
IGNORED = (255, 255, 255)


def choose(report: Report, limit: int = 24) -> list[str]:
    """Ids that together show every class in the opened masks, rare classes first, then more ids up to ``limit``.

    Every class is shown, so there may be more than ``limit`` ids if there are more classes than that.
    """
    rare_first = sorted(report.examples, key=lambda label: int(report.images_with[label]))
    shown: dict[str, set[int]] = {}
    for label, ids in report.examples.items():
        for image_id in ids:
            shown.setdefault(image_id, set()).add(label)
    chosen: list[str] = []
    seen: set[int] = set()
    for label in rare_first:
        if label not in seen:
            best = max(report.examples[label], key=lambda i: len(shown[i] - seen))
            chosen.append(best)
            seen |= shown[best]
    return chosen + [i for i in shown if i not in chosen][: max(limit - len(chosen), 0)]


def write_sheet(path: Path, dataset: SegmentationDataset, report: Report) -> Path:
    """Write one self-contained HTML file.

    Raises:
        InputError: if the file cannot be written.
    """
    total = max(int(report.pixels.sum()), 1)
    legend = [
        {"name": name, "color": dataset.palette[k], "percent": 100 * int(report.pixels[k]) / total,
         "images": int(report.images_with[k])}
        for k, name in enumerate(dataset.classes)
    ]  # fmt: skip
    page = (
        _environment()
        .get_template("sheet.html")
        .render(
            name=dataset.name,
            images=report.opened_images,
            masks=report.opened_masks,
            legend=legend,
            figures=[_figure(dataset, image_id) for image_id in choose(report)],
        )
    )
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(page, encoding="utf-8")
    except OSError as error:
        raise InputError(f"sheet={path}: cannot be written ({error.strerror})") from error
    return path


def overlay(image: np.ndarray, mask: np.ndarray, palette: Sequence[Sequence[int]]) -> np.ndarray:
    """(H, W, 3) uint8 image and (H, W) mask -> (H, W, 3) uint8, class colors blended over the image."""
    colors = np.full((256, 3), IGNORED, np.uint8)
    colors[: len(palette)] = palette
    return (0.4 * image + 0.6 * colors[mask]).astype(np.uint8)


@functools.cache
def _environment() -> Environment:
    loader = PackageLoader("semiseg.data.checking", "templates")
    return Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)


def _figure(dataset: SegmentationDataset, image_id: str) -> dict[str, Any]:
    image, mask = as_rgb(dataset.load_image(image_id)), dataset.load_mask(image_id)
    labels = [int(v) for v in np.unique(mask) if v != IGNORE]
    pictures = [picture(array) for array in (image, overlay(image, mask, dataset.palette))]
    return {"id": image_id, "labels": labels, "pictures": pictures}


def picture(array: np.ndarray) -> dict[str, Any]:
    """(H, W, 3) uint8 -> width, height and base64 JPEG of a small picture of it."""
    image = Image.fromarray(array)
    height = max(1, round(image.height * WIDTH / image.width))
    # Small pictures are enlarged by nearest neighbor, so that thin labels stay visible.
    image = image.resize((WIDTH, height), Image.Resampling.BOX if image.width > WIDTH else Image.Resampling.NEAREST)
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=88)
    return {"width": WIDTH, "height": height, "data": base64.b64encode(buffer.getvalue()).decode()}
