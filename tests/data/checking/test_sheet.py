"""The page of pictures and the processes that read."""

from __future__ import annotations

import base64
import io
import re

import numpy as np
import pytest
from PIL import Image

from semiseg.data.checking import check as checking
from semiseg.data.checking.check import check_dataset
from semiseg.data.checking.sheet import choose, overlay, write_sheet
from semiseg.data.datasets.camvid import CamVid
from semiseg.errors import InputError
from support.dataset_files import ListedDataset, truncate, write_camvid


def with_classes(**masks: int) -> ListedDataset:
    """One image a name, its mask filled with one class."""
    dataset = ListedDataset(sorted(masks), val=["v_1"])
    dataset.masks = {name: np.full((4, 6), label, np.uint8) for name, label in masks.items()}
    return dataset


def test_processes_find_what_one_finds(tmp_path, monkeypatch):
    root = write_camvid(tmp_path, train=9, val=3)
    truncate(root / "train" / "drive0_train004.png")
    dataset = CamVid(root)
    alone = check_dataset(dataset, workers=1)
    monkeypatch.setattr(checking, "FEW", 0)
    monkeypatch.setattr(checking, "CHUNK", 2)
    together = check_dataset(dataset, workers=2)
    assert len(alone.problems) == 1
    assert alone.problems == together.problems
    np.testing.assert_array_equal(alone.pixels, together.pixels)
    np.testing.assert_array_equal(alone.images_with, together.images_with)
    assert alone.examples == together.examples
    assert alone.opened_images == together.opened_images == 12


def test_images_are_counted_by_class():
    report = check_dataset(with_classes(a=0, b=1, c=1, d=255))
    assert report.images_with.tolist() == [2, 2, 0]  # v_1 is of class 0, too
    assert report.pixels.tolist() == [48, 48, 0, 24]


def test_few_examples_are_kept_of_many_images():
    report = check_dataset(with_classes(**{f"a{k:03d}": k % 3 for k in range(90)}))
    assert {len(ids) for ids in report.examples.values()} == {checking.EXAMPLES}


def test_every_class_found_is_in_a_picture():
    dataset = with_classes(**{f"a{k:02d}": 0 for k in range(40)}, b=1, c=2)
    for limit in (1, 3, 24):
        assert {"b", "c"} <= set(choose(check_dataset(dataset), limit))


def test_the_page_holds_names_colors_counts_and_pictures(tmp_path):
    dataset = with_classes(a=0, b=1)
    dataset.classes = ("a", "<b>", "c")
    dataset.name = "<script>alert(1)</script>"
    path = write_sheet(tmp_path / "new" / "sheet.html", dataset, check_dataset(dataset))
    page = path.read_text()
    assert "&lt;b&gt;" in page and "rgb(9,9,9)" in page and "<tr class=none>" in page
    assert not re.search(r'(src|href)="(?!data:)', page)
    assert "<script" not in page and "&lt;script&gt;" in page
    pictures = [Image.open(io.BytesIO(base64.b64decode(d))) for d in re.findall(r"base64,([^\"]+)", page)]
    assert len(pictures) == 2 * 3 and all(p.size == (360, 240) for p in pictures)


def test_the_overlay_blends_colors_and_whitens_what_is_ignored():
    image = np.full((1, 3, 3), 100, np.uint8)
    mask = np.array([[0, 2, 255]], np.uint8)
    blended = overlay(image, mask, ((0, 0, 0), (9, 9, 9), (50, 100, 200)))
    assert blended[0].tolist() == [[40, 40, 40], [70, 100, 160], [193, 193, 193]]


def test_a_page_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    dataset = with_classes(a=0)
    with pytest.raises(InputError, match="cannot be written"):
        write_sheet(tmp_path / "file" / "sheet.html", dataset, check_dataset(dataset))
