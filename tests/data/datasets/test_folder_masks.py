"""Colors and values of masks are reconciled with the class file, or the masks are refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from semiseg.data.checking.check import check_dataset
from semiseg.data.datasets.folder import Folder
from semiseg.errors import InputError
from support.dataset_files import random_image, save

REAL = Path(__file__).parents[3].parent / "shared" / "data" / "real"
BLACK_AND_WHITE = "[{name: a, color: [0, 0, 0]}, {name: b, color: [255, 255, 255]}]"
RED_AND_GREEN = "[{name: red, color: [255, 0, 0]}, {name: green, color: [0, 255, 0]}]"


def folder(root: Path, classes: str, *masks: np.ndarray | Image.Image, **options: object) -> Folder:
    for index, mask in enumerate(masks):
        image = mask if isinstance(mask, Image.Image) else Image.fromarray(mask)
        save(root / "images" / f"{index}.png", random_image(np.random.default_rng(index), image.height, image.width))
        (root / "masks").mkdir(exist_ok=True)
        image.save(root / "masks" / f"{index}.{'tif' if image.mode == 'I' else 'png'}")
    (root / "classes.yaml").write_text(classes)
    return Folder(root, **options)


def gray(*values: int) -> np.ndarray:
    return np.array([values], np.uint8)


def paletted(values: tuple[int, ...], colors: dict[int, tuple[int, int, int]]) -> Image.Image:
    image = Image.fromarray(gray(*values))
    flat = [0] * 768
    for value, color in colors.items():
        flat[3 * value : 3 * value + 3] = color
    image.putpalette(flat)
    return image


def labels(dataset: Folder, index: int = 0) -> list[int]:
    return dataset.load_mask(str(index))[0].tolist()


# gray masks


def test_0_and_255_are_two_classes_where_their_colors_say_so(tmp_path: Path) -> None:
    dataset = folder(tmp_path, BLACK_AND_WHITE, gray(0, 255, 255), gray(0, 0, 0))
    assert labels(dataset) == [0, 1, 1] and labels(dataset, 1) == [0, 0, 0]


@pytest.mark.parametrize("classes", ["[a, b]", RED_AND_GREEN, "[{name: a, color: [0, 0, 0]}, b]"])
def test_0_and_255_without_colors_are_refused(tmp_path: Path, classes: str) -> None:
    dataset = folder(tmp_path, classes, gray(0, 255))
    with pytest.raises(InputError, match=r"contain only 0 and 255.*data.mask_format=binary.*data.mask_format=index"):
        dataset.load_mask("0")
    assert labels(Folder(tmp_path, mask_format="binary")) == [0, 1]
    assert labels(Folder(tmp_path, mask_format="index")) == [0, 255]


def test_ignored_borders_stay_ignored(tmp_path: Path) -> None:
    for index, (classes, values, expected) in enumerate(
        [
            ("[a, b]", (0, 1, 255), [0, 1, 255]),
            (BLACK_AND_WHITE, (0, 1, 255), [0, 1, 255]),  # 1 is no gray of a class
            ("[a, b, c]", (0, 255), [0, 255]),
            ("[a, b]", (0, 1), [0, 1]),
        ]
    ):
        assert labels(folder(tmp_path / str(index), classes, gray(*values))) == expected


def test_one_mask_of_many_decides_for_all(tmp_path: Path) -> None:
    dataset = folder(tmp_path, "[a, b]", *[gray(0, 255)] * 5, gray(0, 1))
    assert labels(dataset) == [0, 255]


def test_binary_takes_0_and_1_too_and_nothing_else(tmp_path: Path) -> None:
    dataset = folder(tmp_path / "d", "[a, b]", gray(0, 1), gray(0, 7), mask_format="binary")
    assert labels(dataset) == [0, 1]
    with pytest.raises(InputError, match=r"1.png: label 7 .*data.mask_format=binary"):
        dataset.load_mask("1")
    with pytest.raises(InputError, match=r"data.mask_format=binary: .* has 3 entries; expected two"):
        folder(tmp_path / "e", "[a, b, c]", gray(0, 1), mask_format="binary")


def test_gray_colors_may_contradict_values(tmp_path: Path) -> None:
    classes = "[{name: a, color: [2, 2, 2]}, {name: b, color: [1, 1, 1]}, {name: c, color: [0, 0, 0]}]"
    assert labels(folder(tmp_path, classes, gray(0, 1, 2))) == [2, 1, 0]


def test_minus_one_is_called_minus_one(tmp_path: Path) -> None:
    mask = Image.fromarray(np.array([[0, 1, -1]], np.int32))
    dataset = folder(tmp_path, "[a, b]", mask)
    with pytest.raises(InputError, match=r"0.tif: label -1 at row 0, column 2 is not allowed: expected 0..255"):
        dataset.load_mask("0")


# palettes


def test_a_palette_in_another_order_is_followed(tmp_path: Path) -> None:
    swapped = paletted((0, 1, 1), {0: (0, 255, 0), 1: (255, 0, 0)})
    agreeing = paletted((0, 1, 255), {0: (255, 0, 0), 1: (0, 255, 0), 255: (224, 224, 192)})
    dataset = folder(tmp_path, RED_AND_GREEN, swapped, agreeing)
    assert labels(dataset) == [1, 0, 0] and labels(dataset, 1) == [0, 1, 255]
    assert labels(Folder(tmp_path, mask_format="index")) == [0, 1, 1]


def test_void_stays_ignored_beside_colors_in_another_order(tmp_path: Path) -> None:
    mask = paletted((0, 1, 255), {0: (0, 255, 0), 1: (255, 0, 0), 255: (224, 224, 192)})
    assert labels(folder(tmp_path, RED_AND_GREEN, mask)) == [1, 0, 255]


def test_a_palette_that_fits_no_class_file_is_refused(tmp_path: Path) -> None:
    dataset = folder(tmp_path, RED_AND_GREEN, paletted((0, 1), {0: (0, 255, 0), 1: (9, 9, 9)}))
    with pytest.raises(InputError, match=r"0.png: its palette contradicts .*value 0 .*data.mask_format=index"):
        dataset.load_mask("0")


def test_palettes_say_nothing_where_the_class_file_has_no_colors(tmp_path: Path) -> None:
    assert labels(folder(tmp_path, "[a, b]", paletted((0, 1), {0: (5, 0, 0), 1: (0, 7, 0)}))) == [0, 1]


def test_a_gray_ramp_is_no_palette(tmp_path: Path) -> None:
    ramp = paletted((0, 1), {0: (0, 0, 0), 1: (1, 1, 1)})
    assert labels(folder(tmp_path, RED_AND_GREEN, ramp)) == [0, 1]


# real downloads


@pytest.mark.skipif(not REAL.is_dir(), reason="../shared/data/real is not there")
@pytest.mark.parametrize(
    ("name", "ignored"), [("binary_0_255", 0), ("palette_in_another_order", 2144)], ids=["binary", "palette"]
)
def test_real_masks(name: str, ignored: int) -> None:
    dataset = Folder(REAL / name)
    report = check_dataset(dataset)
    assert report.ok and report.pixels[-1] == ignored and (report.pixels[:-1] > 0).all()
    for image_id in dataset.ids("train"):
        with Image.open(dataset.mask_file(image_id)) as file:
            colors = np.asarray(file.convert("RGB"))
        mask = dataset.load_mask(image_id)
        for index, color in enumerate(dataset.palette):
            np.testing.assert_array_equal(mask == index, (colors == color).all(-1))
