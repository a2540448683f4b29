"""Masks as labelme files, read back by the reader of labelme files."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from semiseg.data.batch import IGNORE
from semiseg.data.labels.base import BLANK, Source
from semiseg.data.labels.labelme import read
from semiseg.labeling.outlines import IGNORED, labelme_file, outlines

CLASSES = ("ground", "house", "tree")


def read_back(mask: np.ndarray, folder: Path) -> np.ndarray:
    folder.mkdir()
    Image.fromarray(np.zeros((*mask.shape, 3), np.uint8)).save(folder / "a.png")
    (folder / "a.json").write_text(json.dumps(labelme_file(mask, CLASSES, "a.png")))
    labels = read(Source(folder, folder))
    painted = labels.images[0].paint(mask.shape)
    table = np.arange(256, dtype=np.uint8)
    for index, name in enumerate(labels.classes):
        table[index] = CLASSES.index(name)
    return table[painted]


def test_rectangles_come_back_exactly(tmp_path: Path) -> None:
    mask = np.zeros((40, 60), np.uint8)
    mask[5:20, 10:30] = 1
    mask[8:15, 14:22] = 2  # inside the house
    mask[25:35, 40:60] = IGNORE
    np.testing.assert_array_equal(read_back(mask, tmp_path / "x"), mask)


def test_a_region_inside_the_hole_of_its_own_class_comes_back(tmp_path: Path) -> None:
    mask = np.full((60, 60), 1, np.uint8)
    mask[10:50, 10:50] = 0
    mask[20:40, 20:40] = 1
    mask[25:35, 25:35] = IGNORE
    np.testing.assert_array_equal(read_back(mask, tmp_path / "x"), mask)


@pytest.mark.parametrize("seed", range(3))
def test_smooth_regions_come_back_almost(tmp_path: Path, seed: int) -> None:
    draw = np.random.default_rng(seed)
    field = np.asarray(
        Image.fromarray((draw.random((6, 8)) * 255).astype(np.uint8)).resize((160, 120), Image.Resampling.BICUBIC)
    )
    mask = (field // 86).astype(np.uint8)
    mask[mask == 2] = IGNORE if seed == 2 else 2
    back = read_back(mask, tmp_path / "x")
    assert (back == mask).mean() > 0.985
    assert (back == BLANK).mean() < 0.01


def test_specks_get_no_outline_and_unsure_pixels_are_named() -> None:
    mask = np.zeros((200, 200), np.uint8)
    mask[50, 50] = 1
    mask[100:120, 100:120] = IGNORE
    assert [value for value, _ in outlines(mask)] == [0, IGNORE]
    file = labelme_file(mask, CLASSES, "sub/a.jpg")
    assert [s["label"] for s in file["shapes"]] == ["ground", IGNORED]
    assert (file["imageHeight"], file["imageWidth"], file["imageData"]) == (200, 200, None)
    json.dumps(file)
