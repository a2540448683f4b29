from __future__ import annotations

import numpy as np
import pytest

from semiseg.data.datasets.ade20k import ADE20K
from semiseg.errors import InputError
from support.dataset_files import save, truncate
from support.miniatures_b import make_ade20k

FIRST = "annotations/training/ADE_train_00000001.png"


def write(root, name, *values):
    save(root / name, np.array([values], np.uint8))


def test_layout_and_classes(tmp_path):
    dataset = ADE20K(make_ade20k(tmp_path))
    assert dataset.ids("val") == ["ADE_val_00000001", "ADE_val_00000002"]
    assert len(dataset.ids("train")) == 4
    assert dataset.load_image("ADE_val_00000001").shape == (40, 48, 3)
    assert len(dataset.classes) == len(dataset.palette) == 150
    assert [dataset.classes[i] for i in (0, 1, 12, 149)] == ["wall", "building", "person", "flag"]
    assert [dataset.palette[i] for i in (0, 149)] == [(120, 120, 120), (92, 0, 255)]
    assert dataset.locate("ADE_val_00000001").endswith("images/validation/ADE_val_00000001.jpg")


def test_official_values_are_one_more_than_the_class_and_0_is_ignored(tmp_path):
    write(make_ade20k(tmp_path), FIRST, 0, 1, 2, 13, 149, 150)
    mask = ADE20K(tmp_path, labels="official").load_mask("ADE_train_00000001")
    np.testing.assert_array_equal(mask, [[255, 0, 1, 12, 148, 149]])


def test_mapped_values_are_the_class(tmp_path):
    write(make_ade20k(tmp_path, mapped=True), FIRST, 255, 0, 1, 12, 148, 149)
    mask = ADE20K(tmp_path, labels="mapped").load_mask("ADE_train_00000001")
    np.testing.assert_array_equal(mask, [[255, 0, 1, 12, 148, 149]])


@pytest.mark.parametrize("mapped", [False, True])
def test_auto_gives_the_same_classes_for_both_kinds(tmp_path, mapped):
    dataset = ADE20K(make_ade20k(tmp_path, mapped=mapped))
    assert dataset.labels == ("mapped" if mapped else "official")
    np.testing.assert_array_equal(dataset.load_mask("ADE_val_00000001")[0, ::16], [255, 0, 149])


def test_auto_without_a_sign_takes_masks_for_official(tmp_path):
    make_ade20k(tmp_path, train=1, val=0)
    write(tmp_path, FIRST, 7, 8)
    np.testing.assert_array_equal(ADE20K(tmp_path).load_mask("ADE_train_00000001"), [[6, 7]])


def test_one_mask_with_150_is_enough_for_auto(tmp_path):
    make_ade20k(tmp_path)
    for number in range(1, 5):
        write(tmp_path, f"annotations/training/ADE_train_{number:08d}.png", 3, 4)
    write(tmp_path, "annotations/validation/ADE_val_00000001.png", 9, 9)
    assert ADE20K(tmp_path).labels == "official"  # ADE_val_00000002 has a 150


def test_a_wrong_kind_is_refused_with_the_key_to_set(tmp_path):
    make_ade20k(tmp_path / "official")
    with pytest.raises(
        InputError, match=r"ADE_train_00000001.png: label 150 at row 0, column 32.*data.labels=official"
    ):
        ADE20K(tmp_path / "official", labels="mapped").load_mask("ADE_train_00000001")
    make_ade20k(tmp_path / "mapped", mapped=True)
    with pytest.raises(InputError, match=r"ADE_train_00000001.png: label 255 at row 0, column 0.*data.labels=mapped"):
        ADE20K(tmp_path / "mapped", labels="official").load_mask("ADE_train_00000001")
    with pytest.raises(InputError, match=r"labels=offical: did you mean 'official'"):
        ADE20K(tmp_path / "mapped", labels="offical")


def test_root_above_is_accepted_and_root_below_says_which(tmp_path):
    make_ade20k(tmp_path / "ADEChallengeData2016")
    assert len(ADE20K(tmp_path).ids("train")) == 4
    for below in ("images", "annotations/training"):
        with pytest.raises(InputError, match=rf"set data.root={tmp_path}/ADEChallengeData2016$"):
            ADE20K(tmp_path / "ADEChallengeData2016" / below)
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"empty: contains no folder images/training; expected the folder of ADE20K"):
        ADE20K(tmp_path / "empty")


def test_half_extracted(tmp_path):
    make_ade20k(tmp_path)
    (tmp_path / "images/training/ADE_train_00000002.jpg").unlink()
    with pytest.raises(InputError, match=r"images/training: 1 images named by .* are missing \(ADE_train_00000002\)"):
        ADE20K(tmp_path).ids("train")
    for path in (tmp_path / "annotations/validation").iterdir():
        path.unlink()
    with pytest.raises(InputError, match=r"no masks in .*annotations/validation: extract the whole archive"):
        ADE20K(tmp_path).ids("val")
    for path in (tmp_path / "images/validation").iterdir():
        path.unlink()
    with pytest.raises(InputError, match=r"no images in .*images/validation: extract the whole archive"):
        ADE20K(tmp_path).ids("val")


def test_broken_file_missing_mask_and_unknown_split(tmp_path):
    make_ade20k(tmp_path)
    truncate(tmp_path / "annotations/training/ADE_train_00000003.png")
    (tmp_path / "annotations/training/ADE_train_00000004.png").unlink()
    dataset = ADE20K(tmp_path)
    with pytest.raises(InputError, match=r"ADE_train_00000003.png: cannot be read"):
        dataset.load_mask("ADE_train_00000003")
    assert not dataset.has_mask("ADE_train_00000004") and dataset.has_mask("ADE_train_00000003")
    with pytest.raises(InputError, match=r"no mask for 'ADE_train_00000004'"):
        dataset.load_mask("ADE_train_00000004")
    with pytest.raises(InputError, match=r"ade20k has no split 'training': did you mean 'train'"):
        dataset.ids("training")
