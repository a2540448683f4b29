from __future__ import annotations

import json

import numpy as np
import pytest

from semiseg.config.resolvers import without_effect
from semiseg.data.datasets import coco as module
from semiseg.data.datasets.coco import COCO
from semiseg.errors import InputError
from support.dataset_files import save
from support.miniatures_b import CAR, CATEGORY_IDS, PERSON, STOP_SIGN, TOOTHBRUSH, box, make_coco

A, B = "000000000009", "000000000025"


def painted(tmp_path, *objects, height=4, width=6, **options):
    """The mask of one image with these objects."""
    make_coco(tmp_path, train=[A], objects={A: list(objects)}, height=height, width=width)
    return COCO(tmp_path, **options).load_mask(A)


def test_layout_and_classes(tmp_path):
    dataset = COCO(make_coco(tmp_path, unlabeled=["000000000001"]))
    assert len(dataset.ids("train")) == 4 and dataset.ids("val") == ["000000000139", "000000000285"]
    assert dataset.ids("unlabeled") == ["000000000001"] and not dataset.has_mask("000000000001")
    assert dataset.load_image("000000000001").shape == (40, 48, 3)
    assert len(dataset.classes) == len(dataset.palette) == len(set(dataset.palette)) == 81
    assert [dataset.classes[i] for i in (0, 1, 12, 80)] == ["background", "person", "stop sign", "toothbrush"]
    assert dataset.locate(A).endswith(f"train2017/{A}.jpg")


def test_category_ids_with_gaps_become_ranks(tmp_path):
    found = [box(category, k, 0, k + 1, 1) for k, category in enumerate(CATEGORY_IDS)]
    mask = painted(tmp_path, *found, height=2, width=80)
    np.testing.assert_array_equal(mask[0], range(1, 81))
    np.testing.assert_array_equal(mask[1], [0] * 80)
    assert CATEGORY_IDS.index(STOP_SIGN) + 1 == 12 and CATEGORY_IDS.index(TOOTHBRUSH) + 1 == 80


@pytest.mark.parametrize("small_first", [True, False])
def test_of_two_that_overlap_the_small_one_is_on_top(tmp_path, small_first):
    small, large = box(CAR, 1, 1, 3, 3), box(PERSON, 0, 0, 4, 4)
    mask = painted(tmp_path, *((small, large) if small_first else (large, small)))
    expected = [[1, 1, 1, 1, 0, 0], [1, 3, 3, 1, 0, 0], [1, 3, 3, 1, 0, 0], [1, 1, 1, 1, 0, 0]]
    np.testing.assert_array_equal(mask, expected)
    assert mask.dtype == np.uint8


def test_equal_areas_are_painted_in_file_order(tmp_path):
    mask = painted(tmp_path, box(PERSON, 0, 0, 2, 4), box(CAR, 1, 0, 3, 4))
    np.testing.assert_array_equal(mask, [[1, 3, 3, 0, 0, 0]] * 4)


# Columns from left to right, starting with outside: 4 out, 4 in (column 1), 4 out, 8 in (columns 3, 4), 4 out.
CROWD = {"category_id": PERSON, "area": 12, "iscrowd": 1, "segmentation": {"size": [4, 6], "counts": [4, 4, 4, 8, 4]}}


@pytest.mark.parametrize("crowd,value", [("class", 1), ("ignore", 255)])
def test_crowd_as_run_lengths(tmp_path, crowd, value):
    mask = painted(tmp_path, box(CAR, 4, 0, 6, 2), CROWD, crowd=crowd)
    np.testing.assert_array_equal(mask, [[0, value, 0, value, 3, 3]] * 2 + [[0, value, 0, value, value, 0]] * 2)


def test_compressed_run_lengths_and_several_polygons(tmp_path):
    from pycocotools import mask as codec

    ring = np.zeros((4, 6), np.uint8, order="F")
    ring[1:3, 2:5] = 1
    code = codec.encode(ring)
    code["counts"] = code["counts"].decode()
    parts = box(CAR, 0, 0, 1, 1)
    parts["segmentation"] += [*box(CAR, 5, 3, 6, 4)["segmentation"], [0, 0, 1, 1]]  # the last has no inside
    mask = painted(tmp_path, {"category_id": TOOTHBRUSH, "area": 6, "iscrowd": 0, "segmentation": code}, parts)
    expected = [[3, 0, 0, 0, 0, 0], [0, 0, 80, 80, 80, 0], [0, 0, 80, 80, 80, 0], [0, 0, 0, 0, 0, 3]]
    np.testing.assert_array_equal(mask, expected)


def test_image_without_objects_is_background(tmp_path):
    assert not painted(tmp_path).any()


def test_ready_masks_go_first_and_an_image_may_lack_one(tmp_path):
    make_coco(tmp_path, masks=True)
    (tmp_path / "masks" / f"{B}.png").unlink()
    save(tmp_path / "masks" / f"{A}.png", np.array([[0, 80, 255]], np.uint8))
    dataset = COCO(tmp_path)
    np.testing.assert_array_equal(dataset.load_mask(A), [[0, 80, 255]])
    assert dataset.has_mask(A) and not dataset.has_mask(B)
    with pytest.raises(InputError, match=f"no mask for '{B}'"):
        dataset.load_mask(B)
    save(tmp_path / "masks" / f"{A}.png", np.array([[0, 81]], np.uint8))
    with pytest.raises(InputError, match=rf"masks/{A}.png: label 81 at row 0, column 1 .*expected 0..80"):
        dataset.load_mask(A)


def test_masks_of_another_folder(tmp_path):
    make_coco(tmp_path / "coco")
    save(tmp_path / "ready" / f"{A}.png", np.full((2, 2), 5, np.uint8))
    for named in (tmp_path / "ready", "../ready"):
        assert (COCO(tmp_path / "coco", masks=named).load_mask(A) == 5).all()
    with pytest.raises(InputError, match=r"data.masks=.*nowhere: no masks;"):
        COCO(tmp_path / "coco", masks="nowhere")


def test_the_json_is_parsed_once_a_split_and_not_for_ids(tmp_path, monkeypatch):
    parsed = []
    original = module.Instances
    monkeypatch.setattr(module, "Instances", lambda path: parsed.append(path.name) or original(path))
    dataset = COCO(make_coco(tmp_path))
    dataset.ids("train"), dataset.load_image(A)
    assert parsed == []
    assert all(dataset.has_mask(i) for i in dataset.ids("train"))
    dataset.load_mask(A), dataset.load_mask(B), dataset.has_mask("000000000139")
    assert parsed == ["instances_train2017.json", "instances_val2017.json"]


def test_painted_masks_are_kept(tmp_path, monkeypatch):
    make_coco(tmp_path / "coco")
    options = {"root": tmp_path / "coco", "mask_cache": tmp_path / "cache"}
    plain = COCO(tmp_path / "coco")
    first = {i: COCO(**options).load_mask(i) for i in (A, B)}
    monkeypatch.setattr(module.Instances, "paint", None)
    for image_id, mask in first.items():
        np.testing.assert_array_equal(COCO(**options).load_mask(image_id), mask)
    monkeypatch.undo()
    assert all((plain.load_mask(i) == first[i]).all() for i in (A, B)) and (first[A] != first[B]).any()
    COCO(**options, crowd="ignore").load_mask(A)
    assert len(list((tmp_path / "cache").rglob("*.png"))) == 3
    assert without_effect("data.mask_cache")  # on the name of the run folder


def test_root_above_is_accepted_and_root_below_says_which(tmp_path):
    make_coco(tmp_path / "coco")
    assert len(COCO(tmp_path).ids("train")) == 4
    for below in ("train2017", "annotations"):
        with pytest.raises(InputError, match=rf"is inside the data set: set data.root={tmp_path}/coco$"):
            COCO(tmp_path / "coco" / below)


def test_half_extracted(tmp_path):
    make_coco(tmp_path)
    (tmp_path / "train2017" / f"{B}.jpg").unlink()
    with pytest.raises(InputError, match=rf"train2017: 1 images named by .*json are missing \({B}\)"):
        COCO(tmp_path).has_mask(A)
    (tmp_path / "annotations" / "instances_train2017.json").unlink()
    with pytest.raises(InputError, match=r"instances_train2017.json: no such file, and no ready-made masks in .*masks"):
        COCO(tmp_path).has_mask(A)
    with pytest.raises(InputError, match=r"no images in .*unlabeled2017: extract unlabeled2017.zip"):
        COCO(tmp_path).ids("unlabeled")
    with pytest.raises(InputError, match=r"coco has no split 'test'"):
        COCO(tmp_path).ids("test")


@pytest.mark.parametrize(
    "content,problem",
    [
        ('{"images": [', "JSONDecodeError"),
        ('{"images": [], "annotations": []}', "KeyError: 'categories'"),
        ("[1]", "TypeError"),
        (json.dumps({"images": [], "annotations": [], "categories": [{"id": 1}]}), "1 categories, expected the 80"),
    ],
)
def test_broken_json_is_named(tmp_path, content, problem):
    make_coco(tmp_path)
    (tmp_path / "annotations" / "instances_train2017.json").write_text(content)
    with pytest.raises(InputError, match=rf"instances_train2017.json: not a COCO instances file .*{problem}"):
        COCO(tmp_path).has_mask(A)


def test_broken_outline_names_file_and_image(tmp_path):
    wrong = {"category_id": PERSON, "area": 1, "iscrowd": 1, "segmentation": {"size": [3, 3], "counts": [9]}}
    with pytest.raises(InputError, match=rf"instances_train2017.json: malformed outline of an object in {A} .*size"):
        painted(tmp_path, wrong)


def test_crowd_is_spelled_right(tmp_path):
    with pytest.raises(InputError, match=r"crowd=ignored: did you mean 'ignore'"):
        COCO(make_coco(tmp_path), crowd="ignored")
