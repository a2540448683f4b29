from __future__ import annotations

import unicodedata

import numpy as np
import pytest
from PIL import Image

from semiseg.data.checking.check import check_dataset
from semiseg.data.checking.report import by_cause, format_report
from semiseg.data.checking.start import data_warnings, few_labels, quick_check
from semiseg.data.datasets.camvid import CamVid
from semiseg.data.datasets.folder import Folder
from semiseg.data.datasets.shapes import Shapes
from semiseg.data.partitions.splits import Partition, make_partition
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


def show_two_classes(dataset):
    for split in dataset.splits.values():
        dataset.masks |= {i: np.tile(np.array([0, 1], np.uint8), (4, 3)) for i in split}


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
    show_two_classes(dataset)
    partition = make_partition(dataset, count=2)
    quick_check(dataset, partition, dataset.ids("val"))
    data_warnings(dataset, partition, dataset.ids("val"))
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
    with pytest.raises(InputError, match="and 1 more, `semiseg data check` lists all") as error:
        quick_check(dataset, make_partition(dataset, fraction=1.0), dataset.ids("val"))
    assert str(error.value).count("cannot be read") == 5
    assert "\n" not in str(error.value)


def test_quick_check_opens_evenly_chosen_files_of_long_lists():
    dataset = ListedDataset([f"a_{k:02d}" for k in range(20)], val=[f"v_{k:02d}" for k in range(10)])
    show_two_classes(dataset)
    quick_check(dataset, make_partition(dataset, fraction=1.0), dataset.ids("val"), max_labeled=4, max_val=2)
    assert dataset.opened_masks == {"a_00", "a_05", "a_10", "a_15", "v_00", "v_05"}


def test_quick_check_names_validation_images_without_mask():
    dataset = ListedDataset(["a_1"], val=["v_1", "v_2"], without_mask=["v_2"])
    with pytest.raises(InputError, match="v_2: in the validation split but has no mask"):
        quick_check(dataset, make_partition(dataset, count=1), dataset.ids("val"))


def test_report_counts_the_opened_files():
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


# what a training is warned of, and what ends it


def two_parts(labeled, val, **kwargs):
    """One labeled image per mask in ``labeled``, one validation image per mask in ``val``."""
    dataset = ListedDataset([f"a_{k}" for k in range(len(labeled))], [f"v_{k}" for k in range(len(val))], **kwargs)
    for prefix, masks in (("a", labeled), ("v", val)):
        dataset.masks |= {f"{prefix}_{k}": np.resize(np.array(m, np.uint8), (4, 6)) for k, m in enumerate(masks)}
    return dataset


def start(dataset):
    partition = make_partition(dataset, fraction=1.0)
    quick_check(dataset, partition, dataset.ids("val"))
    return data_warnings(dataset, partition, dataset.ids("val"))


def test_classes_in_no_mask_are_warned_of():
    assert start(two_parts([[0, 1], [2]], [[0, 1, 2]])) == []
    assert start(two_parts([[0, 1]], [[0], [2]])) == [
        "class c: in no labeled mask, cannot be learned from labels",
        "class b: in no validation mask, IoU is not defined, or 0 where predicted",
    ]


def test_validation_images_of_a_drive_that_is_trained_on_are_warned_of():
    dataset = ListedDataset(["a_1", "a_2", "b_1"], val=["b_2", "c_1", "b_3"])
    show_two_classes(dataset)
    told = "2 of 3 validation images are from groups that are also trained on (b): "
    told += "the score may be too high for new groups"
    assert told in data_warnings(dataset, make_partition(dataset, count=2), dataset.ids("val"))
    assert told in check_dataset(dataset).warnings
    assert not [line for line in check_dataset(two_parts([[0, 1]], [[0, 1]])).warnings if "groups" in line]


def test_a_warning_from_a_sample_says_so():
    dataset = two_parts([[0, 1]] * 520, [[0, 1, 2]])
    assert start(dataset)[0].startswith("class c: in no labeled mask (500 of 520 were checked)")


def test_masks_are_opened_once_and_no_more_than_needed():
    dataset = two_parts([[0, 1, 2]] * 300, [[0, 1, 2]] * 300)
    opened = []
    load = dataset.load_mask
    dataset.load_mask = lambda i: opened.append(i) or load(i)
    start(dataset)
    assert len(opened) == len(set(opened)) == 300 + 100


@pytest.mark.parametrize(
    ("labeled_masks", "val_masks", "expected"),
    [
        ([[1], [1, 255]], [[0, 1]], "all labeled masks show only the class 'b'"),
        ([[0, 1]], [[2]] * 3, "all validation masks show only the class 'c'"),
        ([[0, 1]], [[255]] * 130, "all validation masks are ignored in every pixel"),
        ([[255]], [[0, 1]], "all labeled masks are ignored in every pixel"),
    ],
)
def test_one_class_or_none_ends_it(labeled_masks, val_masks, expected):
    dataset = two_parts(labeled_masks, val_masks)
    with pytest.raises(InputError, match=expected):
        start(dataset)
    report = check_dataset(dataset)
    assert sum(expected in p for p in report.problems) == 1


def photos(tmp_path, image_names, mask_names, square=True, **exif_of):
    side = (8, 8) if square else (8, 12)
    for name in image_names:
        tags = Image.Exif()
        if name in exif_of:
            tags[0x0112] = exif_of[name]
        save(tmp_path / "images" / f"{name}.jpg", random_image(np.random.default_rng(0), *side), exif=tags)
    for name in mask_names:
        save(tmp_path / "masks" / f"{name}.png", np.resize(np.array([0, 1], np.uint8), side))
    (tmp_path / "classes.yaml").write_text("[a, b]")
    return Folder(tmp_path, val_fraction=0.5)


def test_square_images_that_are_turned_are_warned_of(tmp_path):
    dataset = photos(tmp_path, ["p", "q", "r"], ["p", "q", "r"], p=6, q=1)
    assert next(w for w in start(dataset) if "rotated relative" in w).startswith("1 images may be rotated")
    warnings = check_dataset(dataset).warnings
    assert [w for w in warnings if "EXIF orientation 6" in w and "p.jpg" in w]


@pytest.mark.parametrize(("turn", "warned"), [(3, True), (2, True), (1, False)])
def test_images_that_are_mirrored_are_warned_of(tmp_path, turn, warned):
    dataset = photos(tmp_path, ["p", "q"], ["p", "q"], square=False, p=turn)
    assert any("rotated relative" in w for w in start(dataset)) == warned


def test_images_of_nearly_one_value_are_warned_of(root):
    save(root / "train" / f"{TRAIN[0]}.png", np.full((12, 16, 3), 7, np.uint8))
    report = check_dataset(CamVid(root))
    assert [w for w in report.warnings if "nearly constant, 7 to 7 of 255" in w]
    assert report.ok and "2 warnings:" in format_report(report)  # the other: drives that are also trained on


def test_files_that_are_not_used_as_meant(tmp_path):
    nfc, nfd = (unicodedata.normalize(form, "caf\u00e9") for form in ("NFC", "NFD"))
    dataset = photos(
        tmp_path,
        ["p", "q", nfc, "r", "r_mask", "Case", "s"],
        ["p", "q", nfd, "orphan", "s.jpg", "case", "q-label"],
    )
    (tmp_path / "masks" / "p.npy").touch()
    strays = dataset.strays()
    lines = strays["masks that match no image"]
    for name, why in (
        (nfd, "another Unicode normalization"),
        ("orphan", "matches no image"),
        ("s.jpg", "is named s.png"),
        ("case", "upper and lower case"),
        ("q-label", "is named q.png"),
    ):
        assert [line for line in lines if f"/{name}.png: " in line and why in line], name
    assert len(lines) == 5
    (among,) = strays["files among the images that look like masks"]
    assert "r_mask.jpg" in among and "mask of r.jpg" in among
    assert strays["files that are not read"] == [f"{tmp_path}/masks/p.npy: not read, not an image suffix"]
    assert any(w.startswith("5 masks that match no image: ") for w in start(dataset))
    assert set(lines) <= set(check_dataset(dataset).warnings)


def test_one_line_a_cause():
    lines = [f"/d/{k}.png: label {k} at row 3 is not allowed" for k in range(300)] + ["/d/x.png: cannot be read"]
    assert by_cause(lines) == [
        "300 files: label 0 at row 3 is not allowed (/d/0.png, /d/1.png, /d/2.png and 297 more)",
        "/d/x.png: cannot be read",
    ]


@pytest.mark.parametrize("labeled,val,folds", [(9, 2, 5), (2, 1, 3), (10, 2, None), (9, 10, None)])
def test_few_labels_offer_a_cross_validation(labeled: int, val: int, folds: int | None) -> None:
    partition = Partition(tuple(map(str, range(labeled))), (), "x", None)
    found = few_labels(partition, [f"v{i}" for i in range(val)])
    told = f"{labeled} labeled and {val} validation images: the validation score is unreliable; protocol.folds={folds}"
    assert [line[: len(told)] for line in found] == ([told] if folds else [])
