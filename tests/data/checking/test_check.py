from __future__ import annotations

import numpy as np
import pytest

from semiseg.data.checking.check import check_dataset, format_report, quick_check
from semiseg.data.datasets.camvid import CamVid
from semiseg.data.datasets.folder import Folder
from semiseg.data.datasets.shapes import Shapes
from semiseg.data.partitions.splits import make_partition
from semiseg.errors import InputError
from support.dataset_files import ListedDataset, random_image, save, truncate, write_camvid

TRAIN = [f"drive{k % 2}_train{k:03d}" for k in range(6)]
VAL = ["drive0_val000", "drive1_val001"]


@pytest.fixture
def root(tmp_path):
    return write_camvid(tmp_path)


def labeled(tmp_path, *ids):
    path = tmp_path / "labeled.txt"
    path.write_text("\n".join(ids))
    return {"labeled": path}


def test_all_well(root):
    report = check_dataset(CamVid(root), {"count": 2})
    assert report.ok
    assert report.images == report.masks == {"train": 6, "val": 2}
    assert (report.opened_images, report.opened_masks) == (8, 4)
    expected = np.zeros(12, int)
    dataset = CamVid(root)
    for image_id in (*report.partition.labeled, *VAL):
        for value in dataset.load_mask(image_id).flat:
            expected[11 if value == 255 else value] += 1
    np.testing.assert_array_equal(report.pixels, expected)


def test_every_bad_file_is_named(root):
    truncate(root / "train" / f"{TRAIN[0]}.png")
    (root / "train" / f"{TRAIN[1]}.png").write_text("garbage")
    save(root / "trainannot" / f"{TRAIN[2]}.png", np.zeros((12, 15), np.uint8))
    save(root / "trainannot" / f"{TRAIN[3]}.png", np.full((12, 16), 40, np.uint8))
    (root / "valannot" / f"{VAL[0]}.png").unlink()
    (root / "valannot" / f"{VAL[1]}.png").write_text("garbage")
    report = check_dataset(CamVid(root))
    assert len(report.problems) == 6
    for name, what in (
        (f"train/{TRAIN[0]}.png", "cannot be read"),
        (f"train/{TRAIN[1]}.png", "cannot be read"),
        (f"train/{TRAIN[2]}.png", "the image is 16 x 12 pixels (width x height), its mask 15 x 12"),
        (f"trainannot/{TRAIN[3]}.png", "label 40 at row 0, column 0"),
        (f"val/{VAL[0]}.png", "in the validation split but has no mask"),
        (f"valannot/{VAL[1]}.png", "cannot be read"),
    ):
        assert sum(name in p and what in p for p in report.problems) == 1
    text = format_report(report)
    assert all(p in text for p in report.problems)
    assert "6 problems" in text


def test_partition_problems_are_all_named(root, tmp_path):
    (root / "trainannot" / f"{TRAIN[1]}.png").unlink()
    lists = labeled(tmp_path, TRAIN[0], TRAIN[0], "nonsense", TRAIN[1], TRAIN[2])
    unlabeled = tmp_path / "unlabeled.txt"
    unlabeled.write_text(TRAIN[2])
    report = check_dataset(CamVid(root), {**lists, "unlabeled": unlabeled})
    for what in ("duplicate id", "'nonsense' is not in", "has no mask", "and on the unlabeled list"):
        assert sum(what in p for p in report.problems) == 1
    assert len(report.problems) == 4
    missing = check_dataset(CamVid(root), {"labeled": "missing.txt"})
    assert ["neither a list file" in p for p in missing.problems] == [True]


def test_masks_of_unlabeled_images_stay_closed(root, tmp_path):
    for image_id in TRAIN[1:]:
        (root / "trainannot" / f"{image_id}.png").write_text("garbage")
    lists = labeled(tmp_path, TRAIN[0])
    dataset = CamVid(root)
    assert check_dataset(dataset, lists).ok
    assert len(check_dataset(dataset, lists, all_masks=True).problems) == 5
    quick_check(dataset, make_partition(dataset, **lists), dataset.ids("val"))


def test_only_labeled_and_validation_masks_are_opened(tmp_path):
    dataset = ListedDataset(["a_1", "a_2", "b_1", "b_2"], val=["v_1", "v_2"])
    partition = make_partition(dataset, count=2)
    quick_check(dataset, partition, dataset.ids("val"))
    assert dataset.opened_masks == {*partition.labeled, "v_1", "v_2"}
    dataset.opened_masks.clear()
    check_dataset(dataset, {"count": 2})
    assert dataset.opened_masks == {*partition.labeled, "v_1", "v_2"}


def test_label_outside_the_classes_of_any_data_set():
    dataset = ListedDataset(["a_1"], val=["v_1"])
    dataset.masks["a_1"] = np.full((4, 6), 3, np.uint8)
    report = check_dataset(dataset)
    assert report.problems == ["a_1: its mask has label 3; expected 0..2 or 255"]
    assert report.pixels.tolist() == [24, 0, 0, 0]


def test_image_in_both_splits():
    report = check_dataset(ListedDataset(["a_1", "a_2"], val=["a_2"]))
    assert report.problems == ["a_2: in the train and in the validation split"]


def test_missing_split_is_a_problem(tmp_path):
    report = check_dataset(CamVid(write_camvid(tmp_path, val=0)))
    assert len(report.problems) == 1
    assert "no images in" in report.problems[0]


def test_color_not_in_the_class_file(tmp_path):
    classes = "[{name: a, color: [0, 0, 0]}, {name: b, color: [9, 9, 9]}]"
    for name in ("1", "2", "3"):
        save(tmp_path / "images" / f"{name}.png", random_image(np.random.default_rng(0)))
        save(tmp_path / "masks" / f"{name}.png", np.full((12, 16, 3), int(name), np.uint8))
    (tmp_path / "classes.yaml").write_text(classes)
    report = check_dataset(Folder(tmp_path))
    assert len(report.problems) == 3
    assert all("is not allowed: expected a color of" in p for p in report.problems)


def test_quick_check_names_up_to_five_files(root):
    for image_id in TRAIN:
        truncate(root / "train" / f"{image_id}.png")
    dataset = CamVid(root)
    with pytest.raises(InputError, match="and 1 more, `semiseg data check` names all") as error:
        quick_check(dataset, make_partition(dataset, fraction=1.0), dataset.ids("val"))
    assert str(error.value).count("cannot be read") == 5
    assert "\n" not in str(error.value)


def test_quick_check_opens_evenly_chosen_files_of_long_lists():
    dataset = ListedDataset([f"a_{k:02d}" for k in range(20)], val=[f"v_{k:02d}" for k in range(10)])
    quick_check(dataset, make_partition(dataset, fraction=1.0), dataset.ids("val"), max_labeled=4, max_val=2)
    assert dataset.opened_masks == {"a_00", "a_05", "a_10", "a_15", "v_00", "v_05"}


def test_quick_check_names_validation_images_without_mask():
    dataset = ListedDataset(["a_1"], val=["v_1", "v_2"], without_mask=["v_2"])
    with pytest.raises(InputError, match="v_2: in the validation split but has no mask"):
        quick_check(dataset, make_partition(dataset, count=1), dataset.ids("val"))


def test_report_names_what_it_looked_at():
    dataset = Shapes(size=(16, 16), n_train=4, n_val=2)
    text = format_report(check_dataset(dataset, {"count": 1}))
    for part in (
        "train: 4 images, 4 with mask",
        "1 labeled, 3 unlabeled",
        "sha256",
        "striped disc",
        "no problems found",
    ):
        assert part in text
    assert "in no mask" in format_report(check_dataset(ListedDataset(["a_1"], val=["v_1"])))
