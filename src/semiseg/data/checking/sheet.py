"""A page of images with their masks laid over them: seeing whether labels mean what their names say."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from semiseg.data.batch import IGNORE
from semiseg.data.checking.check import Report
from semiseg.data.datasets.base import SegmentationDataset
from semiseg.errors import InputError

WIDTH = 360  # pixels of a picture
IGNORED = (255, 255, 255)
STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; margin: 2em auto; padding: 0 2em; max-width: 1540px;
  color: #222; background: #fff }
table { border-collapse: collapse } td, th { padding: .15em .9em .15em 0; text-align: left; white-space: nowrap }
.number { text-align: right; font-variant-numeric: tabular-nums }
.color { display: inline-block; width: 1em; height: 1em; border: 1px solid #777; vertical-align: -.15em }
.name { margin-right: 1em; white-space: nowrap; display: inline-block }
.none { color: #a40000 } figure { margin: 0 }
.grid { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 620px), 1fr));
  gap: 2em; margin-top: 2em }
figcaption { margin-bottom: .4em; overflow-wrap: anywhere }
.pictures { display: flex; gap: 8px } .pictures img { width: calc(50% - 4px); height: auto }
"""


def choose(report: Report, limit: int = 24) -> list[str]:
    """Ids that show every class of the masks opened, rare classes first, then more up to ``limit``.

    With more than ``limit`` classes there may be more ids: one a class is never left out.
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
    """Write one HTML file that holds everything it shows.

    Raises:
        InputError: if the file cannot be written.
    """
    figures = [_figure(dataset, image_id) for image_id in choose(report)]
    title = html.escape(f"{dataset.name}: images and their masks")
    page = (
        f"<!doctype html><html lang=en><meta charset=utf-8><title>{title}</title><style>{STYLE}</style>"
        f"<h1>{title}</h1><p>{report.opened_images:,} images and {report.opened_masks:,} masks were opened. "
        f"Every class found is in one of the pictures; white: ignored.</p>"
        f"{_legend(dataset, report)}<div class=grid>{''.join(figures)}</div>"
    )
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(page, encoding="utf-8")
    except OSError as error:
        raise InputError(f"sheet={path}: cannot be written ({error.strerror})") from error
    return path


def overlay(image: np.ndarray, mask: np.ndarray, palette: Sequence[Sequence[int]]) -> np.ndarray:
    """(H, W, 3) uint8 image and (H, W) mask -> (H, W, 3) uint8, the colors of the classes over the image."""
    colors = np.full((256, 3), IGNORED, np.uint8)
    colors[: len(palette)] = palette
    return (0.4 * image + 0.6 * colors[mask]).astype(np.uint8)


def _legend(dataset: SegmentationDataset, report: Report) -> str:
    total = max(int(report.pixels.sum()), 1)
    rows = []
    for index, name in enumerate(dataset.classes):
        images = int(report.images_with[index])
        row_class = "" if images else " class=none"
        rows.append(
            f"<tr{row_class}><td class=number>{index}<td>{_color(dataset, index)} {html.escape(name)}"
            f"<td class=number>{100 * int(report.pixels[index]) / total:.2f} %<td class=number>{images or 'none'}"
        )
    return f"<table><tr><th>value<th>class<th>pixels<th>images{''.join(rows)}</table>"


def _figure(dataset: SegmentationDataset, image_id: str) -> str:
    image, mask = dataset.load_image(image_id), dataset.load_mask(image_id)
    labels = [int(v) for v in np.unique(mask) if v != IGNORE]
    names = "".join(f"<span class=name>{_color(dataset, k)} {html.escape(dataset.classes[k])}</span>" for k in labels)
    pictures = "".join(_picture(array) for array in (image, overlay(image, mask, dataset.palette)))
    caption = f"<b>{html.escape(image_id)}</b> {names}"
    return f"<figure><figcaption>{caption}</figcaption><div class=pictures>{pictures}</div></figure>"


def _color(dataset: SegmentationDataset, index: int) -> str:
    red, green, blue = dataset.palette[index]
    return f'<span class=color style="background:rgb({red},{green},{blue})"></span>'


def _picture(array: np.ndarray) -> str:
    image = Image.fromarray(array)
    height = max(1, round(image.height * WIDTH / image.width))
    # Small pictures grow by whole pixels, so that thin labels stay visible.
    image = image.resize((WIDTH, height), Image.Resampling.BOX if image.width > WIDTH else Image.Resampling.NEAREST)
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=88)
    data = base64.b64encode(buffer.getvalue()).decode()
    return f'<img width={WIDTH} height={height} alt="" src="data:image/jpeg;base64,{data}">'
