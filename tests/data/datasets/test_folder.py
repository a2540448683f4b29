from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from semiseg.data.datasets.class_file import default_palette, read_class_file, readable_palette
from semiseg.data.datasets.folder import Folder
from semiseg.errors import InputError
from support.dataset_files import random_image, save, truncate

CLASSES = """\
- name: ground
  color: [0, 0, 0]
- name: void
  color: [255, 255, 255]
  ignore: true
- name: car
  color: [200, 10, 3]
"""


def make(root, images=("a", "b", "c", "d", "e"), masks=None, classes=CLASSES):
    """Images, index masks with entries 0..2 (all images unless given), class file."""
    rng = np.random.default_rng(0)
    for name in images:
        save(root / "images" / f"{name}.png", random_image(rng))
    for name in images if masks is None else masks:
        save(root / "masks" / f"{name}.png", rng.integers(0, 3, (12, 16), dtype=np.uint8))
    (root / "classes.yaml").write_text(classes)
    return root


def one(root, image=None, mask=None, mask_suffix=".png", **arguments):
    """A data set of which image "a" or its mask is replaced."""
    make(root, ("a", "b"), masks=("b",) if mask is not None else None)
    if image is not None:
        save(root / "images" / "a.png", image)
    if mask is not None:
        path = root / "masks" / f"a{mask_suffix}"
        mask.save(path) if isinstance(mask, Image.Image) else save(path, mask)
    return Folder(root, **arguments)


# masks


def test_index_mask_maps_entries_to_classes(tmp_path):
    values = np.array([[0, 1, 2], [255, 2, 0]], np.uint8)
    dataset = one(tmp_path, mask=values)
    assert dataset.classes == ("ground", "car")
    assert dataset.palette == ((0, 0, 0), (200, 10, 3))
    np.testing.assert_array_equal(dataset.load_mask("a"), [[0, 255, 1], [255, 1, 0]])


def test_palette_mask_gives_indices_not_colors(tmp_path):
    values = np.array([[0, 1, 2], [2, 2, 0]], np.uint8)
    mask = Image.fromarray(values)
    mask.putpalette([7, 7, 7, 8, 8, 8, 9, 9, 9])
    dataset = one(tmp_path, mask=mask, mask_format="index")
    np.testing.assert_array_equal(dataset.load_mask("a"), [[0, 255, 1], [1, 1, 0]])


@pytest.mark.parametrize("alpha", [False, True])
def test_color_mask_against_a_loop(tmp_path, alpha):
    table = {(0, 0, 0): 0, (255, 255, 255): 255, (200, 10, 3): 1}
    rng = np.random.default_rng(1)
    values = np.array(list(table), np.uint8)[rng.integers(0, 3, (12, 16))]
    expected = np.array([[table[tuple(pixel)] for pixel in row] for row in values.tolist()])
    if alpha:
        values = np.concatenate([values, rng.integers(0, 256, (12, 16, 1), dtype=np.uint8)], 2)
    mask = one(tmp_path, mask=values).load_mask("a")
    assert mask.dtype == np.uint8
    np.testing.assert_array_equal(mask, expected)


def test_gray_mask_may_hold_colors(tmp_path):
    values = np.array([[0, 255, 0]], np.uint8)
    classes = "[{name: no, color: [0, 0, 0]}, {name: lesion, color: [255, 255, 255]}]".replace("no,", "'no',")
    make(tmp_path, ("a", "b"), classes=classes)
    save(tmp_path / "masks" / "a.png", values)
    np.testing.assert_array_equal(Folder(tmp_path, mask_format="color").load_mask("a"), [[0, 1, 0]])
    np.testing.assert_array_equal(Folder(tmp_path).load_mask("a"), [[0, 255, 0]])


def test_two_level_and_16_bit_index_masks(tmp_path):
    values = np.array([[0, 1, 2]], np.uint16)
    np.testing.assert_array_equal(one(tmp_path / "x", mask=values).load_mask("a"), [[0, 255, 1]])
    bits = Image.fromarray(np.array([[0, 255]], np.uint8)).convert("1")
    np.testing.assert_array_equal(one(tmp_path / "y", mask=bits).load_mask("a"), [[0, 255]])


def test_unknown_color_names_file_color_and_pixel(tmp_path):
    values = np.zeros((12, 16, 3), np.uint8)
    values[2, 7] = (1, 2, 3)
    values[9, 9] = (200, 10, 4)
    dataset = one(tmp_path, mask=values)
    expected = r"masks/a.png: color \(1, 2, 3\) at row 2, column 7 \(2 such pixels\).*classes.yaml"
    with pytest.raises(InputError, match=expected):
        dataset.load_mask("a")


def test_unknown_index_names_file_label_and_pixel(tmp_path):
    values = np.zeros((12, 16), np.uint8)
    values[0, 4] = 3
    with pytest.raises(InputError, match=r"masks/a.png: label 3 at row 0, column 4.*one of the 3 entries"):
        one(tmp_path, mask=values).load_mask("a")


def test_label_above_255_is_named(tmp_path):
    with pytest.raises(InputError, match=r"masks/a.png: label 300 at row 0, column 0 .* expected 0..255"):
        one(tmp_path, mask=np.full((2, 2), 300, np.uint16)).load_mask("a")


def test_color_mask_without_colors_in_the_class_file(tmp_path):
    make(tmp_path, classes="[ground, car]")
    save(tmp_path / "masks" / "a.png", np.zeros((12, 16, 3), np.uint8))
    with pytest.raises(InputError, match=r"classes.yaml: class 'ground' has no color"):
        Folder(tmp_path).load_mask("a")


def test_index_format_refuses_colors(tmp_path):
    with pytest.raises(InputError, match=r"a.png: RGB image; expected a single-channel mask"):
        one(tmp_path, mask=np.zeros((12, 16, 3), np.uint8), mask_format="index").load_mask("a")


# images


def test_gray_alpha_palette_and_16_bit_images(tmp_path):
    rng = np.random.default_rng(2)
    gray = rng.integers(0, 256, (5, 7), dtype=np.uint8)
    rgb = random_image(rng, 5, 7)
    as_rgb = np.repeat(gray[..., None], 3, 2)
    np.testing.assert_array_equal(one(tmp_path / "gray", gray).load_image("a"), as_rgb)
    deep = gray.astype(np.uint16) * 257
    np.testing.assert_array_equal(one(tmp_path / "deep", deep, range=[0, 65535]).load_image("a"), as_rgb)
    alpha = np.concatenate([rgb, gray[..., None]], 2)
    np.testing.assert_array_equal(one(tmp_path / "alpha", alpha).load_image("a"), rgb)
    dataset = one(tmp_path / "palette")
    Image.fromarray(gray).convert("P").save(tmp_path / "palette/images/a.png")
    assert dataset.load_image("a").shape == (5, 7, 3)


@pytest.mark.parametrize(("orientation", "turn"), [(3, lambda x: x[::-1, ::-1]), (6, lambda x: np.rot90(x, -1))])
def test_exif_orientation_is_applied(tmp_path, orientation, turn):
    dataset = one(tmp_path)
    array = random_image(np.random.default_rng(3), 5, 7)
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(array).save(tmp_path / "images" / "a.png", exif=exif)
    np.testing.assert_array_equal(dataset.load_image("a"), turn(array))


def test_truncated_and_vanished_images(tmp_path):
    make(tmp_path)
    dataset = Folder(tmp_path)
    truncate(tmp_path / "images" / "b.png")
    (tmp_path / "images" / "c.png").unlink()
    for image_id, expected in (
        ("b", "b.png: cannot be read"),
        ("c", "no such file"),
    ):
        with pytest.raises(InputError, match=expected):
            dataset.load_image(image_id)


# splits


def test_subfolders_are_splits(tmp_path):
    images = ("train/x/1", "train/2", "val/1", "test/1", "extra/9")
    dataset = Folder(make(tmp_path, images, masks=("train/2", "val/1")), group_by="subfolder")
    assert dataset.ids("train") == ["train/2", "train/x/1"]
    assert dataset.ids("val") == ["val/1"]
    assert dataset.ids("extra") == ["extra/9"]
    assert dataset.group("train/x/1") == "train/x"
    assert [dataset.has_mask(i) for i in dataset.ids("train")] == [True, False]


def test_image_beside_the_split_folders(tmp_path):
    with pytest.raises(InputError, match=r"images/stray.png: not in a split folder"):
        Folder(make(tmp_path, ("train/1", "val/1", "stray")))


def test_list_files_are_splits(tmp_path):
    make(tmp_path, ("p/a", "p/b", "c", "d"))
    (tmp_path / "val.txt").write_text("p/b\n\n")
    (tmp_path / "test.txt").write_text("images/c.png masks/c.png\n")
    dataset = Folder(tmp_path)
    assert [dataset.ids(split) for split in ("train", "val", "test")] == [["d", "p/a"], ["p/b"], ["c"]]
    (tmp_path / "test.txt").write_text("p/b\nc\n")
    with pytest.raises(InputError, match="listed in two splits: p/b"):
        Folder(tmp_path)
    (tmp_path / "test.txt").write_text("p/q\n")
    with pytest.raises(InputError, match=r"test.txt, line 1: 'p/q' is not in"):
        Folder(tmp_path)


def test_fraction_takes_images_with_masks_only(tmp_path):
    images = [f"{k:02d}" for k in range(30)]
    dataset = Folder(make(tmp_path, images, masks=images[:10]), val_fraction=0.3)
    assert len(dataset.ids("val")) == 3
    assert all(dataset.has_mask(i) for i in dataset.ids("val"))
    assert sorted(dataset.ids("val") + dataset.ids("train")) == images
    assert Folder(tmp_path, val_fraction=0.3).ids("val") == dataset.ids("val")
    assert Folder(tmp_path, val_fraction=0.3, seed=1).ids("val") != dataset.ids("val")


def test_fraction_with_groups_holds_out_whole_groups(tmp_path):
    images = [f"p{g}_{k}" for g in range(5) for k in range(4)]
    make(tmp_path, images, masks=[i for i in images if not i.endswith("3")])
    for seed in range(3):
        dataset = Folder(tmp_path, val_fraction=0.3, group_by="prefix", seed=seed)
        train, val = dataset.ids("train"), dataset.ids("val")
        assert {dataset.group(i) for i in train}.isdisjoint({dataset.group(i) for i in val})
        assert len(val) == 6  # two groups of three images with mask
        assert len(train) == 12


def test_one_group_cannot_be_held_out(tmp_path):
    with pytest.raises(InputError, match="all images with a mask are in one group"):
        Folder(make(tmp_path, ("p_1", "p_2")), group_by="prefix")


def test_group_by_regular_expression(tmp_path):
    make(tmp_path, ("s1-x", "s2-x", "s2-y"))
    assert Folder(tmp_path, group_by=r"^(s\d)-").group("s2-y") == "s2"
    assert Folder(tmp_path, group_by=r"s\d").group("s2-y") == "s2"
    with pytest.raises(InputError, match="does not match the image 's1-x'"):
        Folder(tmp_path, group_by="patient")
    with pytest.raises(InputError, match="nor a regular expression"):
        Folder(tmp_path, group_by="(")


def test_unknown_split(tmp_path):
    with pytest.raises(InputError, match="no split 'valid': did you mean 'val'"):
        Folder(make(tmp_path)).ids("valid")


# wrong input


def test_missing_parts(tmp_path):
    with pytest.raises(InputError, match=r"set data.root="):
        Folder(None)
    with pytest.raises(InputError, match=r"no labels found: neither masks/ and classes.yaml"):
        Folder(tmp_path)
    (tmp_path / "classes.yaml").write_text(CLASSES)
    with pytest.raises(InputError, match="images: no such folder"):
        Folder(tmp_path)
    (tmp_path / "images").mkdir()
    with pytest.raises(InputError, match="images: contains no image files"):
        Folder(tmp_path)


def test_masks_that_fit_no_image(tmp_path):
    with pytest.raises(InputError, match="masks/a_strange should be masks/a"):
        Folder(make(tmp_path, ("a", "b"), masks=("a_strange",)))


@pytest.mark.parametrize("beside", [False, True])
@pytest.mark.parametrize(
    "name,given",
    [
        ("{stem}_mask", None),
        ("{stem}_L", None),
        ("mask_{stem}", None),
        ("{stem}_mask", "{stem}_mask"),
        ("x{stem}~1", "x{stem}~1"),
    ],
)
def test_masks_with_names_of_their_own(tmp_path, name, given, beside):
    plain = Folder(make(tmp_path / "plain", masks=("a", "b")))
    make(tmp_path / "named", masks=("a", "b"))
    for stem in ("a", "b"):
        mask = tmp_path / "named" / "masks" / f"{stem}.png"
        mask.rename(tmp_path / "named" / ("images" if beside else "masks") / f"{name.replace('{stem}', stem)}.png")
    if beside:
        (tmp_path / "named" / "masks").rmdir()
    named = Folder(tmp_path / "named", mask_name=given)
    for split in ("train", "val"):
        assert named.ids(split) == plain.ids(split)
    assert [i for i in "abcde" if named.has_mask(i)] == ["a", "b"]
    np.testing.assert_array_equal(named.load_mask("a"), plain.load_mask("a"))
    said = {} if given else {"mask name pattern detected": [f"data.mask_name={name}"]}
    assert named.strays() == said


@pytest.mark.parametrize("pattern", ["mask", "{stem}/{stem}", "../{stem}", "{stem}{stem}"])
def test_mask_names_that_are_no_pattern(tmp_path, pattern):
    with pytest.raises(InputError, match="expected the name of a mask without suffix"):
        Folder(make(tmp_path), mask_name=pattern)


def test_duplicate_stem(tmp_path):
    make(tmp_path)
    save(tmp_path / "images" / "a.jpg", random_image(np.random.default_rng(0)))
    with pytest.raises(InputError, match=r"duplicate id: a.jpg and a.png"):
        Folder(tmp_path)


def test_hidden_and_other_files_are_passed_over(tmp_path):
    make(tmp_path)
    (tmp_path / "images" / "._a.png").write_text("")
    (tmp_path / "images" / "notes.txt").write_text("")
    (tmp_path / "images" / ".cache").mkdir()
    save(tmp_path / "images" / ".cache" / "z.png", np.zeros((2, 2), np.uint8))
    dataset = Folder(tmp_path)
    assert sorted(dataset.ids("train") + dataset.ids("val")) == ["a", "b", "c", "d", "e"]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({"mask_format": "colour"}, "mask_format=colour: did you mean 'color'"),
        ({"val_fraction": 1.0}, "val_fraction=1.0"),
        ({"val_fraction": 0}, "val_fraction=0"),
    ],
)
def test_wrong_arguments(tmp_path, arguments, expected):
    make(tmp_path)
    with pytest.raises(InputError, match=expected):
        Folder(tmp_path, **arguments)


# class file


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a: b", "expected a list"),
        ("[]", "expected a list"),
        ("- [", "not a YAML file"),
        ("- {nam: a}", "entry 0: unknown key 'nam': did you mean 'name'"),
        ("- a\n- {color: [0, 0, 0]}", "entry 1: expected a name"),
        ("- 3", "entry 0: expected a name, found 3"),
        ("- {name: a, color: [0, 0]}", "entry 0: color is"),
        ("- {name: a, color: [0, 0, 256]}", "each 0..255"),
        ("- {name: a, color: red}", "color is 'red'"),
        ("- {name: a, color: '#12345'}", "color is '#12345'; .* or \"#rrggbb\""),
        ("- name: a\n  color: #123456", "color is empty; .* in quotes"),
        ("- {name: a, ignore: 1}", "ignore is 1; expected true or false"),
        ("- a\n- a", "name a is given twice"),
        ("- {name: a, color: [1, 1, 1]}\n- {name: b, color: [1, 1, 1]}", "color .1, 1, 1. is given twice"),
        ("- {name: a, ignore: true}", "every class is ignored"),
        ("\n".join(f"- c{k}" for k in range(255)), "at most 254"),
    ],
)
def test_wrong_class_files(tmp_path, text, expected):
    path = tmp_path / "classes.yaml"
    path.write_text(text)
    with pytest.raises(InputError, match=expected) as error:
        read_class_file(path)
    assert "\n" not in str(error.value)


def test_default_palette_is_that_of_pascal_voc():
    assert default_palette(22)[:4] == [(0, 0, 0), (128, 0, 0), (0, 128, 0), (128, 128, 0)]
    assert default_palette(22)[20] == (0, 64, 128)
    assert default_palette(256)[255] == (224, 224, 192)


def test_colors_of_classes_without_a_color_differ():
    for count in (1, 5, 8, 30, 250):
        assert len(set(readable_palette(count))) == count
    assert readable_palette(3)[0] == (0, 0, 0)


def test_a_folder_of_photos_without_labels_says_how_to_begin(tmp_path):
    save(tmp_path / "a.jpg", random_image(np.random.default_rng(0), 6, 6))
    with pytest.raises(
        InputError, match=r"no labels found: .*; label some of the photos, .* then `semiseg data import`"
    ):
        Folder(tmp_path)
    (tmp_path / "masks").mkdir()
    with pytest.raises(InputError, match=r"no such class file; write a list .* or let `semiseg data import` write it"):
        Folder(tmp_path)
