from __future__ import annotations

import colorsys
import inspect
import random
from pathlib import Path

import albumentations as A
import cv2
import numpy as np
import pytest
import yaml

from semiseg.data.batch import ViewSpec
from semiseg.data.views.geometry import Geometry
from semiseg.data.views.transforms import TrainViews
from semiseg.errors import InputError
from semiseg.ops.boxes import half_box, u2pl_box, unimatch_box, xor3_boxes


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def smooth_image(height: int, width: int, seed: int = 0) -> np.ndarray:
    """Smooth in both directions, so that half a pixel's shift shows as a few gray levels."""
    phases = rng(seed).uniform(0, 6, 6)
    y, x = np.mgrid[:height, :width]
    channels = [np.sin(y / 5 + phases[c]) + np.cos(x / 7 + phases[c + 3]) for c in range(3)]
    return np.rint(np.stack(channels, axis=-1) * 60 + 125).astype(np.uint8)


# -- geometry -----------------------------------------------------------------------------------------------


def sample(image: np.ndarray, y: float, x: float) -> np.ndarray:
    """Bilinear value at a point in pixel coordinates, borders repeated."""
    height, width = image.shape[:2]
    y, x = min(max(y, 0), height - 1), min(max(x, 0), width - 1)
    y0, x0 = int(y), int(x)
    y1, x1 = min(y0 + 1, height - 1), min(x0 + 1, width - 1)
    above = (1 - (x - x0)) * image[y0, x0] + (x - x0) * image[y0, x1]
    below = (1 - (x - x0)) * image[y1, x0] + (x - x0) * image[y1, x1]
    return (1 - (y - y0)) * above + (y - y0) * below


def slow_geometry(image, mask, g: Geometry):
    """Pixel by pixel: where does this pixel of the crop come from?"""
    height, width = mask.shape
    crop_image = np.zeros((*g.crop, 3))
    crop_mask = np.full(g.crop, 255, dtype=np.uint8)
    padded = np.ones(g.crop, dtype=bool)
    for row in range(g.crop[0]):
        for column in range(g.crop[1]):
            i, j = row + g.top, (g.crop[1] - 1 - column if g.flip else column) + g.left
            if i >= g.resized[0] or j >= g.resized[1]:
                continue
            y, x = (i + 0.5) * height / g.resized[0], (j + 0.5) * width / g.resized[1]
            crop_image[row, column] = sample(image.astype(float), y - 0.5, x - 0.5)
            crop_mask[row, column] = mask[int(y), int(x)]
            padded[row, column] = False
    return crop_image, crop_mask, padded


# Of odd size: no center of a pixel falls on the border of two source pixels, so nearest is unambiguous.
@pytest.mark.parametrize(
    "geometry",
    [
        Geometry((41, 61), (24, 24), 7, 20, False),  # as it is
        Geometry((41, 61), (24, 24), 17, 37, True),
        Geometry((67, 100), (24, 32), 11, 43, True),  # larger
        Geometry((82, 122), (24, 24), 30, 70, False),  # exactly twice
        Geometry((27, 41), (24, 24), 3, 5, False),  # smaller
        Geometry((20, 30), (24, 24), 0, 6, True),  # half, padded below
        Geometry((13, 19), (24, 24), 0, 0, False),  # padded below and right
        Geometry((13, 19), (24, 24), 0, 0, True),  # flipped with its padding
        Geometry((1, 1), (3, 5), 0, 0, True),
    ],
)
def test_geometry_against_a_loop_over_pixels(geometry):
    image = smooth_image(41, 61)
    mask = rng(1).integers(0, 21, (41, 61), dtype=np.uint8)
    crop_image, crop_mask, padded = slow_geometry(image, mask, geometry)
    assert np.abs(geometry.image(image) - crop_image).max() <= 1  # fixed-point arithmetic and rounding
    np.testing.assert_array_equal(geometry.mask(mask), crop_mask)
    np.testing.assert_array_equal(geometry.padded(), padded)


def test_antialiasing_averages_what_shrinks_and_changes_nothing_else():
    stripes = np.tile(np.array([0, 255], np.uint8)[np.arange(60) % 2][None, :, None], (60, 1, 3))
    plain, averaged = (Geometry((20, 20), (20, 20), 0, 0, False, on).image(stripes) for on in (False, True))
    assert set(np.unique(plain)) == {0, 255} and set(np.unique(averaged)) == {85, 170}  # of three pixels each
    for size in ((60, 60), (90, 90)):
        plain, averaged = (Geometry(size, (20, 20), 3, 5, True, on).image(stripes) for on in (False, True))
        np.testing.assert_array_equal(plain, averaged)


@pytest.mark.parametrize("antialias", [False, True])
def test_a_crop_has_the_pixels_of_the_whole_resized_image(antialias):
    rng = np.random.default_rng(0)
    for case in range(1000):
        height, width = (int(side) for side in rng.integers(1, 150, 2))
        image = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
        share = (0.5, 1, 2, 1 + 1 / width, rng.uniform(0.4, 2.2))[case % 5]  # OpenCV treats the first ones apart
        resized = (max(1, int(height * share)), max(1, int(width * share + 0.5)))
        crop = tuple(int(side) for side in rng.integers(1, 60, 2))
        top, left = (int(rng.integers(max(side - size, 0) + 1)) for side, size in zip(resized, crop))
        shrinks = resized[0] < height and resized[1] < width
        how = cv2.INTER_AREA if antialias and shrinks else cv2.INTER_LINEAR
        whole = cv2.resize(image, resized[::-1], interpolation=how)
        expected = whole[top : top + crop[0], left : left + crop[1]]
        found = Geometry(resized, crop, top, left, False, antialias).image(image)
        np.testing.assert_array_equal(found[: expected.shape[0], : expected.shape[1]], expected)
        assert not found[expected.shape[0] :].any() and not found[:, expected.shape[1] :].any()


def test_padding_is_black_and_apart_from_ignored_pixels():
    geometry = Geometry((5, 6), (8, 8), 0, 0, False)
    image, mask = np.full((5, 6, 3), 200, np.uint8), np.full((5, 6), 255, np.uint8)
    padded = geometry.padded()
    assert padded.sum() == 64 - 30
    assert (geometry.image(image)[padded] == 0).all()
    assert (geometry.image(image)[~padded] == 200).all()
    assert (geometry.mask(mask) == 255).all()


def test_padding_can_be_labeled_as_a_class():
    image, mask = np.full((5, 6, 3), 200, np.uint8), np.full((5, 6), 3, np.uint8)
    for label in (255, 0):
        _, crop = TrainViews(16, scale=(1, 1), padding_label=label).labeled(image, mask, rng())
        assert (crop == 3).sum() == 30 and (crop == label).sum() == 256 - 30


def test_geometry_draws_follow_the_law():
    views = TrainViews(321)
    generator = rng()
    drawn = [views.draw_geometry(375, 500, generator) for _ in range(3000)]
    long = np.array([g.resized[1] for g in drawn])
    assert long.min() >= 250 and long.max() <= 1000
    assert {250, 1000} <= set(range(long.min() - 2, long.max() + 3))
    assert abs(long.mean() - 625) < 15
    assert all(g.resized[0] == int(375 * g.resized[1] / 500 + 0.5) for g in drawn)
    assert abs(np.mean([g.flip for g in drawn]) - 0.5) < 0.03
    for g in drawn:
        assert 0 <= g.top <= max(g.resized[0] - 321, 0)
        assert 0 <= g.left <= max(g.resized[1] - 321, 0)
    ends = [g for g in drawn if g.resized[1] > 321]
    places = np.array([g.left / (g.resized[1] - 321) for g in ends])
    assert abs(places.mean() - 0.5) < 0.02 and places.min() < 0.01 and places.max() > 0.99


@pytest.mark.parametrize("size", [(1, 1), (1, 400), (400, 1), (2, 3)])
def test_extreme_images_still_give_a_crop(size):
    views = TrainViews(16)
    for seed in range(5):
        image, mask = views.labeled(np.full((*size, 3), 9, np.uint8), np.zeros(size, np.uint8), rng(seed))
        assert image.shape == (16, 16, 3) and mask.shape == (16, 16)
        assert (mask == 0).any()


# -- views --------------------------------------------------------------------------------------------------


def coordinates_image(height: int, width: int) -> np.ndarray:
    """Every pixel knows its place: red is the row, green the column."""
    y, x = np.mgrid[:height, :width].astype(np.uint8)
    return np.stack([y, x, np.full_like(y, 100)], axis=-1)


def test_weak_strong_and_truth_share_the_geometry():
    views = TrainViews(48, scale=(1, 1), brightness=0, contrast=0, saturation=0, hue=0, gray_p=0, blur_p=0)
    image = coordinates_image(60, 90)
    truth = image[..., 0] // 4 + image[..., 1] % 8
    flips = set()
    for seed in range(8):
        out = views.unlabeled(image, rng(seed), spec=ViewSpec(strong=2), n_classes=3, truth=truth)
        assert (out.strong == out.weak).all()
        np.testing.assert_array_equal(out.truth, out.weak[..., 0] // 4 + out.weak[..., 1] % 8)
        assert not out.padded.any()
        flips.add(bool(out.weak[0, 0, 1] > out.weak[0, 1, 1]))
    assert flips == {True, False}


def test_strong_views_recolor_but_do_not_move():
    image = np.zeros((64, 64, 3), np.uint8)
    image[20:40, 24:50] = (220, 180, 160)
    views = TrainViews(64, scale=(1, 1), blur_p=0)
    out = views.unlabeled(image, rng(3), spec=ViewSpec(strong=6), n_classes=2)
    for strong in out.strong:
        inside = strong[out.weak[..., 0] > 100]
        outside = strong[out.weak[..., 0] == 0]
        assert len(np.unique(inside, axis=0)) == 1 and len(np.unique(outside, axis=0)) == 1
        assert inside[0].sum() > outside[0].sum()
    assert len(np.unique(out.strong.reshape(6, -1), axis=0)) > 3


def test_one_more_strong_view_changes_none_of_the_others():
    views = TrainViews(32)
    image = smooth_image(40, 50)
    outs = [views.unlabeled(image, rng(5), spec=ViewSpec(strong=n), n_classes=4) for n in (0, 1, 3)]
    np.testing.assert_array_equal(outs[0].weak, outs[2].weak)
    for name in ("strong", "boxes", "class_scores"):
        assert len(getattr(outs[0], name)) == 0
        np.testing.assert_array_equal(getattr(outs[1], name), getattr(outs[2], name)[:1])
    assert outs[0].strong.shape == (0, 32, 32, 3)


def test_views_depend_on_the_generator_only():
    image = smooth_image(40, 50)
    first, second = TrainViews(32), TrainViews(32)
    first.unlabeled(image, rng(1), spec=ViewSpec(strong=2), n_classes=4)  # leaves no trace
    random.seed(0), np.random.seed(0)
    a = first.unlabeled(image, rng(2), spec=ViewSpec(strong=2), n_classes=4)
    b = second.unlabeled(image, rng(2), spec=ViewSpec(strong=2), n_classes=4)
    c = second.unlabeled(image, rng(3), spec=ViewSpec(strong=2), n_classes=4)
    for name in ("weak", "strong", "padded", "boxes", "class_scores"):
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name))
    assert not np.array_equal(a.strong, c.strong)


def test_inputs_are_left_alone():
    image, mask = smooth_image(32, 32), np.zeros((32, 32), np.uint8)
    kept = image.copy()
    views = TrainViews(32, scale=(1, 1), flip=0)
    crop, label = views.labeled(image, mask, rng())
    crop[:], label[:] = 1, 1
    for seed in range(6):
        views.unlabeled(image, rng(seed), spec=ViewSpec(strong=2), n_classes=2, truth=mask)
    np.testing.assert_array_equal(image, kept)
    assert not mask.any()


def test_class_scores_are_uniform_and_differ_between_views():
    out = TrainViews(8).unlabeled(smooth_image(8, 8), rng(), spec=ViewSpec(strong=2), n_classes=5000)
    assert out.class_scores.dtype == np.float32
    assert out.class_scores.min() >= 0 and out.class_scores.max() < 1
    assert abs(out.class_scores.mean() - 0.5) < 0.01
    assert abs(np.corrcoef(out.class_scores)[0, 1]) < 0.05


# -- colors ------------------------------------------------------------------------------------------------


def jitter(image: np.ndarray, brightness=1.0, contrast=1.0, saturation=1.0, hue=0.0) -> np.ndarray:
    return A.ColorJitter().apply(image, brightness, contrast, saturation, hue, order=[0, 1, 2, 3])


def luma(image: np.ndarray) -> np.ndarray:
    return image.astype(float) @ [0.299, 0.587, 0.114]


@pytest.mark.parametrize("factor", [0.5, 0.83, 1.0, 1.27, 1.5])
def test_brightness_contrast_saturation_against_their_formulas(factor):
    image = rng().integers(0, 256, (20, 30, 3), dtype=np.uint8)
    levels = image.astype(float)
    gray = np.rint(luma(image))
    expected = {
        "brightness": factor * levels,
        "contrast": factor * levels + (1 - factor) * gray.mean(),
        "saturation": factor * levels + (1 - factor) * gray[..., None],
    }
    for name, result in expected.items():
        difference = jitter(image, **{name: factor}) - result.clip(0, 255)
        assert np.abs(difference).max() <= 1.01, name


@pytest.mark.parametrize("turn", [-0.25, -0.1, 0.17, 0.25])
def test_hue_against_the_color_circle(turn):
    # Clear colors: the hue of a nearly gray pixel is lost in 8 bits anyhow.
    image = np.array([[[200, 40, 60], [50, 180, 90], [30, 60, 220]]], np.uint8)
    result = jitter(image, hue=turn)
    for before, after in zip(image[0] / 255, result[0] / 255):
        h, s, v = colorsys.rgb_to_hsv(*before)
        assert np.abs(np.array(colorsys.hsv_to_rgb((h + turn) % 1, s, v)) - after).max() < 0.03


def test_gray_against_luma():
    image = rng().integers(0, 256, (20, 30, 3), dtype=np.uint8)
    views = TrainViews(20, scale=(1, 1), jitter_p=0, blur_p=0, gray_p=1)
    out = views.unlabeled(image, rng(), spec=ViewSpec(strong=1), n_classes=1)
    assert np.abs(out.strong[0] - luma(out.weak)[..., None]).max() <= 0.51


@pytest.mark.parametrize("sigma", [0.1, 0.6, 2.0])
def test_blur_against_a_gaussian(sigma):
    image = rng().integers(0, 256, (40, 40, 3), dtype=np.uint8)
    views = TrainViews(40, scale=(1, 1), flip=0, jitter_p=0, gray_p=0, blur_p=1, blur_sigma=(sigma, sigma))
    out = views.unlabeled(image, rng(), spec=ViewSpec(strong=1), n_classes=1)
    y, x = np.mgrid[:40, :40]
    for row, column in ((20, 20), (13, 25), (25, 14)):  # 3.5 sigma away from the border
        weights = np.exp(-((y - row) ** 2 + (x - column) ** 2) / (2 * sigma**2))
        expected = (out.weak * weights[..., None]).sum((0, 1)) / weights.sum()
        assert np.abs(out.strong[0, row, column] - expected).max() <= 1.5


def test_each_color_change_happens_as_often_as_asked():
    image = smooth_image(16, 16)

    def changed(**p) -> float:
        options = {"jitter_p": 0, "gray_p": 0, "blur_p": 0, "blur_sigma": (1, 2)} | p
        out = TrainViews(16, scale=(1, 1), **options).unlabeled(image, rng(), spec=ViewSpec(strong=1000), n_classes=1)
        return float((out.strong != out.weak).any((1, 2, 3)).mean())

    assert changed() == 0
    assert abs(changed(jitter_p=0.8) - 0.8) < 0.04
    assert abs(changed(gray_p=0.2) - 0.2) < 0.04
    assert abs(changed(blur_p=0.5) - 0.5) < 0.05


# -- boxes --------------------------------------------------------------------------------------------------


def boxes(law, n: int, height: int = 321, width: int = 321) -> np.ndarray:
    generator = rng()
    drawn = np.array([law(height, width, generator) for _ in range(n)]).reshape(-1, 4)
    assert (drawn >= 0).all() and (drawn[:, 2] <= height).all() and (drawn[:, 3] <= width).all()
    return drawn


def test_unimatch_boxes_follow_their_law():
    drawn = boxes(unimatch_box, 20_000)
    box = drawn[drawn.any(1)]
    assert abs(len(box) / len(drawn) - 0.5) < 0.015
    height, width = box[:, 2] - box[:, 0], box[:, 3] - box[:, 1]
    area = height * width / 321**2
    assert abs(area.mean() - 0.21) < 0.005
    assert area.min() > 0.0185 and area.max() <= 0.4
    assert abs((height > width).mean() - 0.73) < 0.015
    assert abs((height / width).mean() - 1.61) < 0.03
    # No corner is preferred: as much room above as below, and left as right.
    assert abs((box[:, 0] - (321 - box[:, 2])).mean()) < 5
    assert abs((box[:, 1] - (321 - box[:, 3])).mean()) < 5


def test_half_boxes_cover_half_the_crop():
    drawn = boxes(half_box, 20_000)
    height, width = drawn[:, 2] - drawn[:, 0], drawn[:, 3] - drawn[:, 1]
    area = height * width / 321**2
    assert abs(area.mean() - 0.5) < 0.002
    assert np.abs(area - 0.5).max() < 0.004  # rounding to pixels
    assert height.min() >= 160 and height.max() == 321
    assert abs(np.log(height / 321).mean() - np.log(0.5) / 2) < 0.01  # log-uniform between 1/2 and 1


def test_u2pl_boxes_cover_half_the_crop_and_are_wide():
    drawn = boxes(u2pl_box, 20_000)
    height, width = drawn[:, 2] - drawn[:, 0], drawn[:, 3] - drawn[:, 1]
    assert np.abs(height * width / 321**2 - 0.5).max() < 0.002  # within one row of pixels
    assert width.min() == 161 and width.max() == 320
    assert abs(width.mean() - 240.5) < 1  # uniform


def test_xor_boxes_cover_a_quarter_on_average():
    """MKD's numbers for three boxes: mean 25.0 %, deviation 6.9 %, 8 to 45 %."""
    height, width, n = 100, 100, 3000
    inside = np.zeros((n, height, width), dtype=bool)
    for i, three in enumerate(boxes(xor3_boxes, n, height, width).reshape(n, 3, 4)):
        for y0, x0, y1, x1 in three:
            inside[i, y0:y1, x0:x1] ^= True
    area = inside.mean((1, 2))
    assert abs(area.mean() - 0.25) < 0.01 and abs(area.std() - 0.069) < 0.005
    assert 0.04 < area.min() < 0.12 and 0.4 < area.max() < 0.5


@pytest.mark.parametrize("law", [unimatch_box, half_box, u2pl_box, xor3_boxes])
@pytest.mark.parametrize("size", [(1, 1), (3, 2), (20, 90)])
def test_boxes_fit_any_crop(law, size):
    assert len(boxes(law, 200, *size)) >= 200  # each inside the crop, see boxes()


@pytest.mark.parametrize(("by_hand", "of_the_method"), [("half", "unimatch"), (None, "half")])
def test_the_law_is_the_methods_unless_chosen_by_name(by_hand, of_the_method):
    spec = ViewSpec(strong=20, cutmix_law=of_the_method)
    out = TrainViews(64, cutmix_law=by_hand).unlabeled(smooth_image(64, 64), rng(), spec=spec, n_classes=1)
    assert out.boxes.shape == (20, 1, 4)
    area = np.prod(out.boxes[..., 2:] - out.boxes[..., :2], axis=-1)
    assert np.abs(area / 64**2 - 0.5).max() < 0.02


def test_a_law_of_several_boxes_keeps_them_apart():
    spec = ViewSpec(strong=2, cutmix_law="xor3")
    out = TrainViews(64).unlabeled(smooth_image(64, 64), rng(), spec=spec, n_classes=1)
    assert out.boxes.shape == (2, 3, 4)


def test_strong_views_can_be_copies_and_labeled_images_strong():
    image, mask = smooth_image(64, 64), np.zeros((64, 64), np.uint8)
    views = TrainViews(64, jitter_p=1)
    plain = views.unlabeled(image, rng(), spec=ViewSpec(strong=2, recolored=False), n_classes=1)
    assert (plain.strong == plain.weak).all()
    weak, labels = views.labeled(image, mask, rng())
    strong, same = views.labeled(image, mask, rng(), strong=True)
    assert (weak != strong).any() and (labels == same).all()


# -- wrong values -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"crop_size": 0}, "crop_size=0"),
        ({"crop_size": -3}, "crop_size=-3"),
        ({"crop_size": 32.5}, "crop_size=32.5"),
        ({"crop_size": (32, 0)}, "crop_size="),
        ({"crop_size": (1, 2, 3)}, "crop_size="),
        ({"scale": (2.0, 0.5)}, "scale="),
        ({"scale": (0, 1)}, "scale="),
        ({"blur_sigma": (0.0, 1.0)}, "blur_sigma="),
        ({"flip": 1.2}, "flip=1.2"),
        ({"jitter_p": -0.1}, "jitter_p="),
        ({"contrast": 3}, "contrast="),
        ({"hue": 0.6}, "hue="),
        ({"padding_label": 256}, "padding_label=256"),
        ({"cutmix_law": "unimtach"}, "allowed are unimatch, half, u2pl, xor3"),
    ],
)
def test_wrong_values_are_named(values, message):
    with pytest.raises(InputError, match=message) as error:
        TrainViews(**({"crop_size": 32} | values))
    assert "\n" not in str(error.value)


def test_the_default_option_holds_every_argument_and_its_default():
    option = yaml.safe_load((Path(__file__).parents[3] / "conf/transforms/default.yaml").read_text())
    assert option.pop("_target_") == "semiseg.data.views.transforms.TrainViews"
    assert option.pop("crop_size") == "${crop_size}"
    parameters = inspect.signature(TrainViews).parameters
    defaults = {name: p.default for name, p in parameters.items() if name != "crop_size"}
    assert option == {name: list(d) if isinstance(d, tuple) else d for name, d in defaults.items()}
