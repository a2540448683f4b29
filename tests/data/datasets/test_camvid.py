from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from semiseg.data.datasets.camvid import CamVid
from semiseg.errors import InputError
from support.dataset_files import random_image, save, truncate, write_camvid


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".PNG", ".bmp"])
def test_layout_ids_and_groups(tmp_path, suffix):
    dataset = CamVid(write_camvid(tmp_path / "CamVid", suffix=suffix))
    assert dataset.ids("val") == ["drive0_val000", "drive1_val001"]
    assert len(dataset.ids("train")) == 6
    assert dataset.group("drive1_val001") == "drive1"
    image = dataset.load_image("drive0_val000")
    assert (image.shape, image.dtype) == ((12, 16, 3), np.uint8)
    assert dataset.has_mask("drive0_val000")
    assert dataset.locate("drive0_val000").endswith(f"drive0_val000{suffix}")
    assert len(dataset.classes) == len(dataset.palette) == 11


def test_value_11_is_ignored(tmp_path):
    dataset = CamVid(write_camvid(tmp_path))
    image_id = dataset.ids("train")[0]
    values = np.array(Image.open(tmp_path / "trainannot" / f"{image_id}.png"))
    expected = [[255 if v == 11 else v for v in row] for row in values]
    assert (values == 11).any()
    np.testing.assert_array_equal(dataset.load_mask(image_id), expected)


def test_root_may_be_the_folder_above(tmp_path):
    write_camvid(tmp_path / "CamVid")
    assert CamVid(tmp_path).ids("train") == CamVid(tmp_path / "CamVid").ids("train")


def test_value_outside_the_classes_names_file_and_pixel(tmp_path):
    dataset = CamVid(write_camvid(tmp_path))
    mask = np.zeros((12, 16), np.uint8)
    mask[3, 5] = 12
    save(tmp_path / "trainannot" / "drive0_train000.png", mask)
    with pytest.raises(InputError, match=r"drive0_train000.png: label 12 at row 3, column 5"):
        dataset.load_mask("drive0_train000")


def test_truncated_and_broken_files_are_named(tmp_path):
    dataset = CamVid(write_camvid(tmp_path, suffix=".jpg"))
    truncate(tmp_path / "train" / "drive0_train000.jpg")
    (tmp_path / "trainannot" / "drive0_train000.png").write_text("not an image")
    with pytest.raises(InputError, match=r"train/drive0_train000.jpg: cannot be read"):
        dataset.load_image("drive0_train000")
    with pytest.raises(InputError, match=r"trainannot/drive0_train000.png: cannot be read"):
        dataset.load_mask("drive0_train000")


def test_color_mask_is_refused(tmp_path):
    dataset = CamVid(write_camvid(tmp_path))
    save(tmp_path / "trainannot" / "drive0_train000.png", random_image(np.random.default_rng(0)))
    with pytest.raises(InputError, match=r"drive0_train000.png: RGB image; expected a single-channel mask"):
        dataset.load_mask("drive0_train000")


def test_image_without_mask(tmp_path):
    write_camvid(tmp_path)
    (tmp_path / "trainannot" / "drive0_train000.png").unlink()
    dataset = CamVid(tmp_path)
    assert not dataset.has_mask("drive0_train000")
    with pytest.raises(InputError, match="no mask for 'drive0_train000'"):
        dataset.load_mask("drive0_train000")


@pytest.mark.parametrize("root", [None, ""])
def test_root_not_set(root):
    with pytest.raises(InputError, match=r"set data.root="):
        CamVid(root)


def test_missing_and_empty_root(tmp_path):
    with pytest.raises(InputError, match="no such folder"):
        CamVid(tmp_path / "nowhere")
    with pytest.raises(InputError, match="no images in"):
        CamVid(tmp_path)


def test_empty_and_unknown_split(tmp_path):
    dataset = CamVid(write_camvid(tmp_path, val=0))
    with pytest.raises(InputError, match=r"no images in .*val"):
        dataset.ids("val")
    with pytest.raises(InputError, match="did you mean 'val'"):
        dataset.ids("vall")


def test_duplicate_ids(tmp_path):
    write_camvid(tmp_path)
    image = random_image(np.random.default_rng(0))
    extra = save(tmp_path / "train" / "drive0_train000.jpg", image)
    with pytest.raises(InputError, match=r"duplicate id: drive0_train000.jpg and drive0_train000.png"):
        CamVid(tmp_path)
    extra.unlink()
    save(tmp_path / "val" / "drive0_train000.png", image)
    with pytest.raises(InputError, match="duplicate id"):
        CamVid(tmp_path)
