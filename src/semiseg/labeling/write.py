"""A folder for a labeling tool: photos, masks to correct, the ranking, and a page to look at."""

from __future__ import annotations

import csv
import functools
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from PIL import Image

from semiseg.data.batch import IGNORE
from semiseg.data.checking.sheet import overlay, picture
from semiseg.data.datasets.base import SegmentationDataset
from semiseg.data.datasets.class_file import ClassFile, Color
from semiseg.data.labels.importing import RANKING
from semiseg.data.readers.bands import as_rgb
from semiseg.errors import InputError
from semiseg.labeling.outlines import labelme_file
from semiseg.labeling.ranking import Choice
from semiseg.training.overlay import paletted

Format = Literal["labelme", "png"]
SHEET = "sheet.html"


def check_output(output: Path) -> None:
    """Make sure, before any work, that there is nothing at ``output`` that could be overwritten.

    Raises:
        InputError: there is.
    """
    if output.is_symlink() or (output.exists() and not (output.is_dir() and not any(output.iterdir()))):
        raise InputError(f"output={output} exists and is not overwritten: choose a new folder")


def write_batch(
    output: Path,
    choices: Sequence[Choice],
    dataset: SegmentationDataset,
    classes: Sequence[str],
    palette: Sequence[tuple[int, int, int]],
    prefill: Callable[[np.ndarray], np.ndarray],
    *,
    format: Format = "labelme",
    about: str = "",
) -> None:
    """Write a new folder; it appears once everything is in it.

    ``images/`` holds copies of the photos, under the path that they have in the data set. Their masks lie beside them
    (labelme) or below ``masks/`` (palette PNG, 255 for unsure pixels). ``semiseg data import`` reads both.

    Args:
        output: the folder.
        choices: the images, in order.
        dataset: where they come from.
        classes: names by index.
        palette: (R, G, B) by index.
        prefill: (H, W, 3) uint8 -> (H, W) uint8, class indices and 255 for unsure.
        format: of the masks.
        about: a line for the page.

    Raises:
        InputError: there is something at ``output``, or it cannot be written.
    """
    check_output(output)
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{output.name}.", dir=output.parent) as folder:
            beside = Path(folder) / "all"
            beside.mkdir()
            figures = [_write_one(beside, choice, dataset, classes, palette, prefill, format) for choice in choices]
            (beside / "classes.yaml").write_text(entries(dataset, classes, palette).text(), encoding="utf-8")
            write_ranking(beside / RANKING, choices)
            legend = [{"name": name, "color": color} for name, color in zip(classes, palette)]
            page = _environment().get_template("next.html").render(figures=figures, legend=legend, about=about)
            (beside / SHEET).write_text(page, encoding="utf-8")
            os.replace(beside, output)
    except OSError as error:
        raise InputError(f"output={output}: cannot be written to ({error.strerror or error})") from error


def write_ranking(path: Path, choices: Sequence[Choice]) -> None:
    """One row a choice, as CSV."""
    measures = list(choices[0].uncertainty) if choices else []
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["rank", "image", "score", *measures, "distance", "nearest", "unsure", "why"])
        for c in choices:
            distance = "" if c.distance is None else f"{c.distance:.6f}"
            values = [f"{c.uncertainty[name]:.6f}" for name in measures]
            writer.writerow(
                [c.rank, c.image_id, f"{c.score:.6f}", *values, distance, c.nearest or "", f"{c.unsure:.6f}", c.why]
            )


def entries(dataset: SegmentationDataset, classes: Sequence[str], palette: Sequence[Color]) -> ClassFile:
    """The class file of a batch: the entries of the data set, ignored ones included, so that masks go back into it.

    A color that two of them share is left out.
    """
    own = dataset.class_file
    if own is None or own.classes != tuple(classes):
        own = ClassFile.plain(classes)
    colors = own.with_colors(palette).colors
    return replace(own, colors=tuple(color if colors.count(color) == 1 else None for color in colors))


def _write_one(
    folder: Path,
    choice: Choice,
    dataset: SegmentationDataset,
    classes: Sequence[str],
    palette: Sequence[tuple[int, int, int]],
    prefill: Callable[[np.ndarray], np.ndarray],
    format: Format,
) -> dict[str, Any]:
    """Photo and mask of one image; returns its figure for the page."""
    image = dataset.load_image(choice.image_id)
    mask = prefill(image)
    source = dataset.image_file(choice.image_id)
    photo = folder / "images" / f"{choice.image_id}{source.suffix if source else '.png'}"
    photo.parent.mkdir(parents=True, exist_ok=True)
    if source is None:
        Image.fromarray(image).save(photo)
    else:
        shutil.copyfile(source, photo)
    if format == "labelme":
        content = json.dumps(labelme_file(mask, classes, photo.name), indent=1, ensure_ascii=False)
        (folder / "images" / f"{choice.image_id}.json").write_text(content + "\n", encoding="utf-8")
    else:
        path = folder / "masks" / f"{choice.image_id}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        own = entries(dataset, classes, palette)
        colors = [color or (0, 0, 0) for color in own.colors]
        paletted(own.stored(mask), colors).save(path, bits=8)
    present = [int(v) for v in np.unique(mask) if v != IGNORE]
    shown = as_rgb(image)
    pictures = [picture(array) for array in (shown, overlay(shown, mask, palette))]
    return {"choice": choice, "labels": present, "pictures": pictures, "blank": float((mask == IGNORE).mean())}


@functools.cache
def _environment() -> Environment:
    loader = PackageLoader("semiseg.labeling", "templates")
    return Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
