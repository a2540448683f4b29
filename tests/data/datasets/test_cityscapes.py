from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from semiseg.config import compose_config
from semiseg.data.datasets.cityscapes import Cityscapes
from semiseg.errors import InputError
from support.dataset_files import random_image, save
from support.miniatures import CITYSCAPES_IDS, make_cityscapes

FIRST = "aachen_000000_000019"
CLASS_OF = {  # label id: name of its class; the ids left out are not scored
    7: "road", 8: "sidewalk", 11: "building", 12: "wall", 13: "fence", 17: "pole", 19: "traffic light",
    20: "traffic sign", 21: "vegetation", 22: "terrain", 23: "sky", 24: "person", 25: "rider", 26: "car",
    27: "truck", 28: "bus", 31: "train", 32: "motorcycle", 33: "bicycle",
}  # fmt: skip


def mask_path(root: Path, image_id: str, kind: str = "labelIds", split: str = "train") -> Path:
    return root / "gtFine" / split / image_id.split("_")[0] / f"{image_id}_gtFine_{kind}.png"


def image_path(root: Path, image_id: str, split: str = "train") -> Path:
    return root / "leftImg8bit" / split / image_id.split("_")[0] / f"{image_id}_leftImg8bit.png"


def test_every_label_id(tmp_path):
    root = make_cityscapes(tmp_path)
    ids = [*range(34), 255]  # 255: -1, the licence plate
    save(mask_path(root, FIRST), np.array([ids, ids], np.uint8))
    expected = [
        255, 255, 255, 255, 255, 255, 255, 0, 1, 255, 255, 2, 3, 4, 255, 255, 255, 5, 255, 6, 7, 8, 9, 10, 11, 12,
        13, 14, 15, 255, 255, 16, 17, 18, 255,
    ]  # fmt: skip
    mask = Cityscapes(root).load_mask(FIRST)
    assert mask.dtype == np.uint8 and mask.tolist() == [expected, expected]
    assert {i: Cityscapes.classes[v] for i, v in zip(ids, expected, strict=True) if v != 255} == CLASS_OF


def test_classes_and_colors():
    assert len(Cityscapes.classes) == len(Cityscapes.palette) == len(set(Cityscapes.palette)) == 19
    assert Cityscapes.palette[Cityscapes.classes.index("person")] == (220, 20, 60)
    assert Cityscapes.palette[18] == (119, 11, 32)


def test_train_ids_are_taken_where_they_are(tmp_path):
    root = make_cityscapes(tmp_path, train_ids=[FIRST])
    values = np.array([[0, 18, 255], [3, 4, 5]], np.uint8)
    save(mask_path(root, FIRST, "labelTrainIds"), values)
    dataset = Cityscapes(root)
    assert dataset.load_mask(FIRST).tolist() == [[0, 18, 255], [3, 4, 5]]
    other = dataset.load_mask("bochum_000000_000313")
    assert (other[0, 0], other[-1, 0]) == (2, 0)  # building above, road below


def test_splits_and_groups(tmp_path):
    dataset = Cityscapes(make_cityscapes(tmp_path, {**CITYSCAPES_IDS, "train_extra": ["erfurt_000003_000019"]}))
    assert [dataset.ids(s) for s in ("train", "val", "test")] == [list(v) for v in CITYSCAPES_IDS.values()]
    assert dataset.ids("train_extra") == ["erfurt_000003_000019"]
    assert dataset.has_mask(FIRST) and dataset.has_mask("munster_000000_000019")
    assert not dataset.has_mask("berlin_000000_000019")  # a placeholder
    assert not dataset.has_mask("erfurt_000003_000019")
    assert dataset.group(FIRST) == "aachen"
    assert dataset.locate(FIRST).endswith(f"leftImg8bit/train/aachen/{FIRST}_leftImg8bit.png")
    image = dataset.load_image(FIRST)
    assert (image.shape, image.dtype) == ((32, 64, 3), np.uint8)


@pytest.mark.parametrize("inside", ["erfurt", "train_extra/erfurt", "leftImg8bit/train_extra/erfurt"])
def test_train_extra_beside(tmp_path, inside):
    root = make_cityscapes(tmp_path)
    name = "erfurt_000003_000019"
    image = random_image(np.random.default_rng(0))
    save(root / "leftImg8bit_trainextra" / inside / f"{name}_leftImg8bit.png", image)
    assert Cityscapes(root).ids("train_extra") == [name]
    np.testing.assert_array_equal(Cityscapes(root).load_image(name), image)


def test_root_may_be_the_folder_above(tmp_path):
    root = make_cityscapes(tmp_path / "cityscapes")
    assert Cityscapes(tmp_path).ids("train") == Cityscapes(root).ids("train")


# Bad input


def test_wrong_root(tmp_path):
    root = make_cityscapes(tmp_path / "data")
    for below in ("leftImg8bit", "leftImg8bit/train", "gtFine/train"):
        with pytest.raises(InputError, match=rf"inside the data set: set data.root={root}$"):
            Cityscapes(root / below)
    with pytest.raises(InputError, match="contains no folder leftImg8bit;"):
        Cityscapes(tmp_path)
    with pytest.raises(InputError, match=r"data.root is not set"):
        Cityscapes(None)


def test_half_extracted_archive(tmp_path):
    root = make_cityscapes(tmp_path)
    mask_path(root, FIRST).unlink()
    image_path(root, "munster_000001_000019", "val").unlink()
    dataset = Cityscapes(root)
    with pytest.raises(InputError, match=rf"gtFine/train: 1 masks of the images in .* are missing \({FIRST}\)"):
        dataset.ids("train")
    with pytest.raises(InputError, match=r"leftImg8bit/val: 1 images named by .*gtFine/val are missing"):
        dataset.ids("val")
    with pytest.raises(InputError, match="train_extra: no frames"):
        dataset.ids("train_extra")
    with pytest.raises(InputError, match="did you mean 'val'"):
        dataset.ids("vall")
    (root / "gtFine").rename(root / "elsewhere")
    with pytest.raises(InputError, match=r"no folder gtFine beside leftImg8bit; extract gtFine_trainvaltest.zip"):
        Cityscapes(root)


def test_images_without_the_suffix_of_the_archive(tmp_path):
    save(tmp_path / "leftImg8bit" / "train" / "aachen" / "a.png", random_image(np.random.default_rng(0)))
    (tmp_path / "gtFine").mkdir()
    with pytest.raises(InputError, match=r"no <split>/<city>/<id>_leftImg8bit.png"):
        Cityscapes(tmp_path)


@pytest.mark.parametrize(("kind", "value"), [("labelIds", 34), ("labelTrainIds", 19)])
def test_values_outside_the_table_are_named(tmp_path, kind, value):
    root = make_cityscapes(tmp_path)
    mask = np.zeros((32, 64), np.uint8)
    mask[3, 5] = value
    save(mask_path(root, FIRST, kind), mask)
    with pytest.raises(InputError, match=rf"{FIRST}_gtFine_{kind}.png: label {value} at row 3, column 5"):
        Cityscapes(root).load_mask(FIRST)


def test_color_and_missing_masks(tmp_path):
    root = make_cityscapes(tmp_path)
    save(mask_path(root, FIRST), random_image(np.random.default_rng(0)))
    with pytest.raises(InputError, match="RGB image; expected a single-channel mask"):
        Cityscapes(root).load_mask(FIRST)
    with pytest.raises(InputError, match="no mask for 'berlin_000000_000019'"):
        Cityscapes(root).load_mask("berlin_000000_000019")


# Training


@pytest.mark.parametrize("chosen", ["", "eval=whole"])
def test_the_data_set_chooses_evaluation_and_loss_unless_a_person_does(chosen):
    cfg = compose_config(["data=cityscapes", "protocol=cityscapes/1_16", *filter(None, [chosen])])
    assert cfg.eval._target_.rsplit(".", 1)[1] == ("Whole" if chosen else "Sliding")
    assert cfg.loss._target_.rsplit(".", 1)[1] == "OHEM"
    assert set(cfg.data) == {"_target_", "root", "balance"}
