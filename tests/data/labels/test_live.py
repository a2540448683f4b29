"""``data.labels=``: labels of a tool, read as they are; the same data set as an import of them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from semiseg.commands.data import main
from semiseg.data.checking.check import check_dataset
from semiseg.data.datasets.folder import Folder
from semiseg.errors import InputError
from support import breaking
from support.dataset_files import random_image, save
from support.tiny import tiny

H, W = 40, 48
SQUARE = [[8, 8], [24, 8], [24, 24], [8, 24]]
STEMS = ("a", "b", "c", "d")


def photos(root: Path) -> None:
    for k, stem in enumerate((*STEMS, "e", "f")):
        save(root / f"{stem}.jpg", random_image(np.random.default_rng(k), H, W))


def labelme(root: Path) -> None:
    for k, stem in enumerate(STEMS):
        shapes = [{"label": ("tree", "car")[k % 2], "points": SQUARE, "shape_type": "polygon"}]
        content = {"shapes": shapes, "imagePath": f"{stem}.jpg", "imageHeight": H, "imageWidth": W}
        (root / f"{stem}.json").write_text(json.dumps(content))


def coco(root: Path) -> None:
    images = [{"id": k, "file_name": f"{stem}.jpg", "height": H, "width": W} for k, stem in enumerate(STEMS)]
    outline = [[v for point in SQUARE for v in point]]
    marks = [{"id": k, "image_id": k, "category_id": k % 2, "segmentation": outline} for k in range(len(STEMS))]
    names = [{"id": 0, "name": "tree"}, {"id": 1, "name": "car"}]
    (root / "instances.json").write_text(json.dumps({"images": images, "annotations": marks, "categories": names}))


def yolo(root: Path) -> None:
    (root / "classes.txt").write_text("tree\ncar\n")
    (root / "labels").mkdir()
    corners = " ".join(f"{x / W} {y / H}" for x, y in SQUARE)
    for k, stem in enumerate(STEMS):
        (root / f"labels/{stem}.txt").write_text(f"{k % 2} {corners}\n")


@pytest.mark.parametrize("write", [labelme, coco, yolo])
@pytest.mark.parametrize("named", [True, False])
def test_it_is_the_data_set_that_an_import_would_write(write, named: bool, tmp_path: Path) -> None:
    root = tmp_path / "source"
    photos(root)
    write(root)
    assert main(["import", str(root), f"output={tmp_path / 'out'}"]) == 0
    written = Folder(tmp_path / "out", val_fraction=0.25)
    live = Folder(root, val_fraction=0.25, labels=write.__name__ if named else "auto")
    assert (live.classes, live.palette) == (written.classes, written.palette)
    for split in ("train", "val"):
        assert live.ids(split) == written.ids(split)
    for i in STEMS:
        assert live.has_mask(i)
        np.testing.assert_array_equal(live.load_mask(i), written.load_mask(i))
        np.testing.assert_array_equal(live.load_image(i), written.load_image(i))
    assert not live.has_mask("e") and check_dataset(live).ok
    assert (live.strays() == {}) == named
    with pytest.raises(InputError, match=r"e.jpg: has no label"):
        live.load_mask("e")


def test_other_labels_are_other_data(tmp_path: Path) -> None:
    photos(tmp_path)
    labelme(tmp_path)
    before = Folder(tmp_path, labels="labelme", val_fraction=0.25).variant
    content = json.loads((tmp_path / "a.json").read_text())
    content["shapes"] *= 2
    (tmp_path / "a.json").write_text(json.dumps(content))
    assert before.startswith("labels of labelme JSON, ")
    assert Folder(tmp_path, labels="labelme", val_fraction=0.25).variant != before


def test_a_class_file_fixes_the_order_and_blank_pixels_may_be_unlabeled(tmp_path: Path) -> None:
    photos(tmp_path)
    labelme(tmp_path)
    (tmp_path / "classes.yaml").write_text("- car\n- tree\n- background\n")
    data = Folder(tmp_path, labels="labelme", val_fraction=0.25)
    assert data.classes == ("car", "tree", "background")
    assert sorted(np.unique(data.load_mask("a"))) == [1, 2]
    (tmp_path / "classes.yaml").unlink()
    data = Folder(tmp_path, blank="unlabeled", val_fraction=0.25)
    assert data.classes == ("car", "tree") and sorted(np.unique(data.load_mask("a"))) == [1, 255]


def test_the_wrong_tool_is_told_in_one_line(tmp_path: Path) -> None:
    photos(tmp_path)
    labelme(tmp_path)
    with pytest.raises(InputError, match=r"no labels of the format yolo|data\.yaml|classes\.txt"):
        Folder(tmp_path, labels="yolo")
    with pytest.raises(InputError, match="no such class file"):
        Folder(tmp_path, labels="masks")


def test_a_run_learns_from_them(tmp_path: Path) -> None:
    photos(tmp_path / "data")
    labelme(tmp_path / "data")
    own = ("data=folder", f"data.root={tmp_path / 'data'}", "data.size=", "data.n_train=", "data.n_val=")
    result = breaking.run(
        tmp_path / "run",
        tiny(*own, "protocol=folder/all", "data.val_fraction=0.5", "data.labels=labelme", "max_steps=1"),
    )
    assert (result["n_labeled"], result["n_val"], result["n_unlabeled"]) == (2, 2, 2)
    assert list(result["iou_per_class"]) == ["background", "car", "tree"]
