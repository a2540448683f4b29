from __future__ import annotations

import numpy as np
import pytest

from semiseg.data.datasets.pascal_context import PascalContext
from semiseg.errors import InputError
from support.dataset_files import save, truncate
from support.miniatures_b import make_pascal_context

ID = "2008_000003"
MASK = f"SegmentationClassContext/{ID}.png"
VOC_20 = "aeroplane bicycle bird boat bottle bus car cat chair cow table dog horse motorbike person pottedplant sheep"
VOC_20 = [*VOC_20.split(), "sofa", "train", "tvmonitor"]


def mask_of(root, *values, **options):
    save(root / MASK, np.array([values], np.uint8))
    return PascalContext(root, **options).load_mask(ID).tolist()


@pytest.mark.parametrize("by_split", [False, True])
def test_both_layouts(tmp_path, by_split):
    dataset = PascalContext(make_pascal_context(tmp_path, by_split=by_split))
    assert dataset.ids("train") == ["2008_000003", "2008_000009", "2008_000015", "2008_000019"]
    assert dataset.ids("val") == ["2008_000002", "2008_000007"]
    assert dataset.load_image("2008_000002").shape == (40, 48, 3)
    assert dataset.load_mask("2008_000002")[0, ::12].tolist() == [0, 1, 2, 59]
    assert dataset.locate(ID).endswith(f"JPEGImages/{ID}.jpg")


def test_60_classes_are_the_values_of_the_file(tmp_path):
    make_pascal_context(tmp_path)
    assert mask_of(tmp_path, 0, 1, 2, 58, 59, 255) == [[0, 1, 2, 58, 59, 255]]


def test_59_classes_ignore_background_and_move_down_by_one(tmp_path):
    make_pascal_context(tmp_path)
    assert mask_of(tmp_path, 0, 1, 2, 58, 59, 255, classes=59) == [[255, 0, 1, 57, 58, 255]]


def test_names_and_colors_in_alphabetical_order(tmp_path):
    dataset = PascalContext(make_pascal_context(tmp_path))
    assert len(dataset.classes) == len(dataset.palette) == 60
    assert [dataset.classes[i] for i in (0, 1, 2, 23, 37, 59)] == [
        "background", "aeroplane", "bag", "dog", "person", "wood",
    ]  # fmt: skip
    assert list(dataset.classes[1:]) == sorted(dataset.classes[1:])
    assert dataset.palette[2] == (6, 230, 230)
    fewer = PascalContext(tmp_path, classes=59)
    assert fewer.classes == dataset.classes[1:] and fewer.palette == dataset.palette[1:]


def test_names_and_colors_with_voc_first(tmp_path):
    alphabetical = PascalContext(make_pascal_context(tmp_path))
    dataset = PascalContext(tmp_path, order="voc_first")
    assert dataset.classes[0] == "background" and list(dataset.classes[1:21]) == VOC_20
    assert [dataset.classes[i] for i in (12, 15, 21, 22, 59)] == ["dog", "person", "bag", "bed", "wood"]
    assert list(dataset.classes[21:]) == sorted(dataset.classes[21:])
    assert dict(zip(dataset.classes, dataset.palette, strict=True)) == dict(
        zip(alphabetical.classes, alphabetical.palette, strict=True)
    )
    assert PascalContext(tmp_path, classes=59, order="voc_first").classes[:2] == ("aeroplane", "bicycle")
    assert mask_of(tmp_path, 0, 12, 59, order="voc_first") == [[0, 12, 59]]  # names differ, values do not


def test_value_above_59_is_refused(tmp_path):
    make_pascal_context(tmp_path)
    with pytest.raises(InputError, match=rf"{ID}.png: label 60 at row 0, column 1 .*459 classes must be converted"):
        mask_of(tmp_path, 1, 60)


@pytest.mark.parametrize(
    "option,message", [({"classes": 33}, "classes=33: allowed: 59, 60"), ({"order": "voc"}, "voc_first")]
)
def test_options(tmp_path, option, message):
    with pytest.raises(InputError, match=message):
        PascalContext(make_pascal_context(tmp_path), **option)


@pytest.mark.parametrize("above", ["VOC2010", "VOCdevkit/VOC2010"])
def test_root_above_is_accepted_and_root_below_says_which(tmp_path, above):
    make_pascal_context(tmp_path / above)
    assert len(PascalContext(tmp_path).ids("train")) == 4
    for below in ("JPEGImages", "ImageSets/SegmentationContext"):
        with pytest.raises(InputError, match=rf"set data.root={tmp_path}/{above}$"):
            PascalContext(tmp_path / above / below)


@pytest.mark.parametrize(
    "name,message",
    [
        ("trainval/2008_000002.mat", r"2008_000002.mat: masks of the original release .459 classes. .* convert"),
        ("trainval_merged.json", r"annotations only in trainval_merged.json; convert"),
        ("README", r"no masks; expected <id>.png in SegmentationClassContext/"),
    ],
)
def test_original_release_is_refused_with_what_to_do(tmp_path, name, message):
    save(tmp_path / "JPEGImages" / f"{ID}.jpg", np.zeros((4, 4, 3), np.uint8))
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).touch()
    with pytest.raises(InputError, match=message):
        PascalContext(tmp_path)


def test_half_extracted(tmp_path):
    make_pascal_context(tmp_path)
    (tmp_path / "JPEGImages" / f"{ID}.jpg").unlink()
    with pytest.raises(InputError, match=rf"JPEGImages: 1 images named by .*train.txt are missing \({ID}\)"):
        PascalContext(tmp_path).ids("train")
    lists = tmp_path / "ImageSets" / "SegmentationContext"
    (lists / "train.txt").unlink()
    with pytest.raises(InputError, match=r"SegmentationContext/train.txt: no such file; expected the list"):
        PascalContext(tmp_path).ids("train")
    (lists / "val.txt").write_text("\n")
    with pytest.raises(InputError, match=r"val.txt: empty"):
        PascalContext(tmp_path).ids("val")
    with pytest.raises(InputError, match=r"pascal_context has no split 'test'"):
        PascalContext(tmp_path).ids("test")


def test_broken_and_missing_masks(tmp_path):
    make_pascal_context(tmp_path)
    truncate(tmp_path / MASK)
    (tmp_path / "SegmentationClassContext" / "2008_000009.png").unlink()
    dataset = PascalContext(tmp_path)
    with pytest.raises(InputError, match=rf"{MASK}: cannot be read"):
        dataset.load_mask(ID)
    assert dataset.has_mask(ID) and not dataset.has_mask("2008_000009")
    with pytest.raises(InputError, match=r"no mask for '2008_000009'"):
        dataset.load_mask("2008_000009")
