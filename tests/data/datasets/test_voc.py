from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from semiseg.data.datasets import voc
from semiseg.data.datasets.voc import VOC
from semiseg.errors import InputError
from support.dataset_files import random_image, save, truncate
from support.miniatures import make_voc, save_palette_mask, save_sbd_mask, voc_colors, write_ids

A, B, C, D = "2008_000008", "2008_000015", "2009_000001", "2010_000002"


def middle(mask: np.ndarray) -> int:
    return int(mask[12, 16])


def test_a_palette_mask_gives_the_indices_and_keeps_255(tmp_path):
    root = make_voc(tmp_path)
    values = np.array([[0, 1, 20, 255], [255, 15, 5, 0]], np.uint8)
    path = save_palette_mask(root / "SegmentationClass" / "2007_000032.png", values)
    with Image.open(path) as image:
        assert image.convert("RGB").getpixel((3, 0)) == (224, 224, 192)  # the cream color of borders
        assert image.convert("RGB").getpixel((1, 1)) == (192, 128, 128)  # person
    mask = VOC(root).load_mask("2007_000032")
    assert mask.dtype == np.uint8 and mask.tolist() == [[0, 1, 20, 255], [255, 15, 5, 0]]


def test_classes_and_colors():
    assert len(VOC.classes) == len(VOC.palette) == 21
    assert (VOC.classes[0], VOC.classes[15], VOC.classes[20]) == ("background", "person", "tvmonitor")
    assert [v for color in VOC.palette for v in color] == voc_colors()[:63]


def test_splits(tmp_path):
    dataset = VOC(make_voc(tmp_path, aug=[B, "2007_000033"], sbd=[A, C, "2007_000042"], unlabeled=[D]))
    assert dataset.ids("train") == ["2007_000032", "2007_000039"]
    assert dataset.ids("val") == ["2007_000033", "2007_000042"]
    assert dataset.ids("trainaug") == ["2007_000032", "2007_000039", A, B, C]
    assert dataset.ids("all") == ["2007_000032", "2007_000039", A, B, C, D]
    assert dataset.has_mask(C) and not dataset.has_mask(D)
    assert dataset.locate(D).endswith(f"JPEGImages/{D}.jpg")
    image = dataset.load_image(D)
    assert (image.shape, image.dtype) == ((24, 32, 3), np.uint8)


def test_which_mask_counts(tmp_path):
    dataset = VOC(make_voc(tmp_path, aug=["2007_000032"], sbd=["2007_000032", "2007_000039", "2007_000042", A]))
    assert middle(dataset.load_mask("2007_000032")) == 3  # SegmentationClassAug first
    assert middle(dataset.load_mask("2007_000039")) == 1  # the mask of 2012, with its border, before that of SBD
    assert middle(dataset.load_mask("2007_000042")) == 2
    assert (dataset.load_mask("2007_000042") == 255).any()
    assert middle(dataset.load_mask(A)) == 4


@pytest.mark.parametrize(
    "place",
    ["benchmark_RELEASE/dataset/cls", "dataset/cls", "sbd/cls", "VOCdevkit/sbd/cls", "VOCdevkit/VOC2012/sbd/cls"],
)
def test_sbd_is_found_beside(tmp_path, place):
    root = make_voc(tmp_path, unlabeled=[A])
    mask = np.arange(21, dtype=np.uint8).reshape(1, 21)
    save_sbd_mask(tmp_path / place / f"{A}.mat", mask)
    dataset = VOC(root)
    assert dataset.load_mask(A).tolist() == [list(range(21))]
    assert A in dataset.ids("trainaug")


@pytest.mark.parametrize(
    "given", ["benchmark_RELEASE", "benchmark_RELEASE/dataset", "benchmark_RELEASE/dataset/cls", "."]
)
def test_sbd_may_be_given(tmp_path, given):
    root = make_voc(tmp_path / "voc", unlabeled=[A])
    save_sbd_mask(tmp_path / "benchmark_RELEASE" / "dataset" / "cls" / f"{A}.mat", np.full((3, 4), 7, np.uint8))
    assert not VOC(root).has_mask(A)
    assert VOC(root, sbd=tmp_path / given).load_mask(A).tolist() == [[7] * 4] * 3
    with pytest.raises(InputError, match=r"data.sbd=.*no .mat files"):
        VOC(root, sbd=tmp_path / "voc" / "VOCdevkit")


def test_cached_masks_of_sbd_are_not_decoded_again(tmp_path, monkeypatch):
    root = make_voc(tmp_path, sbd=[A])
    first = VOC(root, mask_cache=tmp_path / "cache").load_mask(A)
    monkeypatch.setattr(voc, "read_sbd_mask", lambda path: pytest.fail("decoded again"))
    again = VOC(root, mask_cache=tmp_path / "cache").load_mask(A)
    np.testing.assert_array_equal(first, again)
    assert middle(again) == 4


def test_root_may_be_any_folder_above(tmp_path):
    root = make_voc(tmp_path)
    for given in (tmp_path, tmp_path / "VOCdevkit", root):
        assert VOC(given).root == root


def test_prepared_folder_with_all_masks_in_one(tmp_path):
    root = make_voc(tmp_path, aug=[A, B], lists=False, prepared=True)
    dataset = VOC(root)
    assert middle(dataset.load_mask(A)) == 3 and middle(dataset.load_mask("2007_000033")) == 2
    for split in ("val", "all", "trainaug"):
        with pytest.raises(InputError, match=r"ImageSets/Segmentation/val.txt: no such file; expected the list"):
            dataset.ids(split)
    lines = [f"JPEGImages/{i}.jpg SegmentationClass/{i}.png" for i in ("2007_000033", "2007_000042")]
    write_ids(root / "ImageSets" / "Segmentation" / "val.txt", lines)
    assert VOC(root).ids("val") == ["2007_000033", "2007_000042"]
    assert VOC(root).ids("all") == VOC(root).ids("trainaug") == ["2007_000032", "2007_000039", A, B]


# Bad input


def test_wrong_root(tmp_path):
    root = make_voc(tmp_path / "data")
    with pytest.raises(InputError, match=rf"inside the data set: set data.root={root}$"):
        VOC(root / "JPEGImages")
    with pytest.raises(InputError, match=rf"inside the data set: set data.root={root}$"):
        VOC(root / "ImageSets" / "Segmentation")
    with pytest.raises(InputError, match="contains no folder JPEGImages;"):
        VOC(tmp_path)
    with pytest.raises(InputError, match=r"no such folder; set data.root="):
        VOC(tmp_path / "nowhere")
    with pytest.raises(InputError, match=r"data.root is not set"):
        VOC(None)


def test_half_extracted_archive(tmp_path):
    root = make_voc(tmp_path, train=["2007_000032", "2007_000039", "2007_000063"])
    (root / "SegmentationClass" / "2007_000039.png").unlink()
    with pytest.raises(InputError, match=r"1 masks of the images in .*train.txt are missing \(2007_000039\)"):
        VOC(root).ids("train")
    (root / "JPEGImages" / "2007_000063.jpg").unlink()
    with pytest.raises(InputError, match=r"1 images named by .*train.txt are missing \(2007_000063\)"):
        VOC(root).ids("train")
    with pytest.raises(InputError, match=r"JPEGImages: 1 images named by .*SegmentationClass are missing"):
        VOC(root).ids("trainaug")
    for path in (root / "SegmentationClass").iterdir():
        path.unlink()
    with pytest.raises(InputError, match=r"no masks; expected <id>.png in SegmentationClass/"):
        VOC(root)
    for path in (root / "JPEGImages").iterdir():
        path.unlink()
    with pytest.raises(InputError, match=r"JPEGImages: no images; extract the whole archive"):
        VOC(root)


def test_empty_list_and_unknown_split(tmp_path):
    root = make_voc(tmp_path)
    write_ids(root / "ImageSets" / "Segmentation" / "val.txt", [])
    with pytest.raises(InputError, match=r"val.txt: empty"):
        VOC(root).ids("val")
    with pytest.raises(InputError, match="did you mean 'trainaug'"):
        VOC(root).ids("train_aug")


def test_bad_masks_are_named(tmp_path):
    root = make_voc(tmp_path, sbd=[A, B, C])
    path = root / "SegmentationClass" / "2007_000032.png"
    save(path, random_image(np.random.default_rng(0)))
    with pytest.raises(InputError, match=r"2007_000032.png: RGB image, but VOC masks are palette images .*; use"):
        VOC(root).load_mask("2007_000032")
    values = np.zeros((12, 16), np.uint8)
    values[3, 5] = 21
    save_palette_mask(path, values)
    with pytest.raises(InputError, match=r"2007_000032.png: label 21 at row 3, column 5 is not allowed"):
        VOC(root).load_mask("2007_000032")
    sbd = tmp_path / "benchmark_RELEASE" / "dataset" / "cls"
    truncate(sbd / f"{A}.mat")
    (sbd / f"{B}.mat").write_text("not a matrix")
    save_sbd_mask(sbd / f"{C}.mat", np.zeros((2, 2, 3), np.uint8))
    for image_id in (A, B):
        with pytest.raises(InputError, match=rf"{image_id}.mat: cannot be read as an SBD mask"):
            VOC(root).load_mask(image_id)
    with pytest.raises(InputError, match=rf"{C}.mat: GTcls.Segmentation is uint8 \(2, 2, 3\)"):
        VOC(root).load_mask(C)
    with pytest.raises(InputError, match="has no mask for 'nothing'"):
        VOC(root).load_mask("nothing")
