"""The colors of MKD: numeric test 14 of its specification, and the photometric distortion against a slow loop."""

from __future__ import annotations

import colorsys
import inspect
from pathlib import Path

import numpy as np
import pytest
import yaml

from semiseg.data.batch import ViewSpec
from semiseg.data.views.mkd import MKDViews, distorted


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def picture(height: int = 24, width: int = 32) -> np.ndarray:
    """Smooth colors in the middle of the range: every operation leaves its own trace."""
    y, x = np.mgrid[:height, :width]
    channels = [100 + 40 * np.sin(x / 4), 120 + 30 * np.cos(y / 5), 140 + 20 * np.sin((x + y) / 6)]
    return np.rint(np.stack(channels, axis=-1)).astype(np.uint8)


def draw(image: np.ndarray, n: int, seed: int = 0):
    views = MKDViews(image.shape[:2], scale=(1, 1), flip=0)
    return views.unlabeled(image, rng(seed), spec=ViewSpec(strong=n), n_classes=2)


# -- strong ---------------------------------------------------------------------------------------------------


def slow_equalize(channel: np.ndarray) -> np.ndarray:
    """Spread the ranks of the values evenly over 0..255."""
    counts = [int((channel == v).sum()) for v in range(256)]
    first = next(v for v in range(256) if counts[v])
    below, table = 0, np.zeros(256)
    for v in range(first + 1, 256):
        below += counts[v]
        table[v] = 255 * below / (channel.size - counts[first])
    return np.rint(table)[channel]


def operation(image: np.ndarray, strong: np.ndarray, equalized: np.ndarray) -> str:
    """Which one operation has made ``strong`` of ``image``."""
    if (strong == strong[..., :1]).all():
        return "gray"
    if (strong == image).all():
        return "blur"  # sigma 0.2 and below
    if (strong == np.where(image >= 128, 255 - image, image)).all():
        return "solarize"
    if np.abs(strong - equalized).max() <= 1:
        return "equalize"
    # Where the picture has equal pixels, color jitter keeps them equal.
    keys = image.reshape(-1, 3) @ [65536, 256, 1]
    values = strong.reshape(-1, 3)
    order = np.argsort(keys, kind="stable")
    same = keys[order][1:] == keys[order][:-1]
    pointwise = (values[order][1:][same] == values[order][:-1][same]).all()
    return "jitter" if pointwise else "blur"


def test_a_strong_view_is_one_operation_as_often_as_its_weight_says() -> None:
    coarse = rng(1).integers(60, 200, (24, 32, 3)) // 20 * 20  # few colors, so many pixels are equal
    coarse[:, ::2], coarse[::2] = coarse[0, 0], coarse[:1, 1:2]
    image, n = coarse.astype(np.uint8), 3000
    equalized = np.stack([slow_equalize(image[..., c]) for c in range(3)], axis=-1)
    found = [operation(image, strong, equalized) for strong in draw(image, n).strong]
    expected = {"jitter": 0.3, "blur": 0.5, "equalize": 0.1, "solarize": 0.1, "gray": 0.5}
    for name, weight in expected.items():
        share = weight / 1.5
        assert abs(found.count(name) / n - share) < 3 * (share * (1 - share) / n) ** 0.5, name


def test_solarize_turns_around_at_128() -> None:
    ramp = np.arange(256, dtype=np.uint8).reshape(16, 16)
    image = np.stack([ramp, ramp.T, ramp], axis=-1)
    expected = np.where(image >= 128, 255 - image, image)
    assert any((strong == expected).all() for strong in draw(image, 100).strong)


def test_blur_is_at_most_seven_pixels_wide() -> None:
    image = np.zeros((24, 32, 3), np.uint8)
    image[12, 16] = (255, 40, 90)
    widths = set()
    for strong in draw(image, 300).strong:
        lit = np.flatnonzero(strong[12, :, 0] != strong[0, 0, 0])
        if len(lit) > 1 and not (strong == strong[..., :1]).all() and strong[0, 0].sum() == 0:
            widths.add(int(lit[-1] - lit[0] + 1))
    assert widths == {3, 5, 7}


# -- weak -----------------------------------------------------------------------------------------------------


def slow_distortion(pixel: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """One pixel (3,) in floats, rounded nowhere."""
    brightness, contrast, saturation, hue, contrast_last = generator.random(5) < 0.5
    plus, (times, richer), turn = (
        generator.uniform(-32, 32),
        generator.uniform(0.5, 1.5, 2),
        generator.integers(-18, 18),
    )
    pixel = pixel.astype(float)
    if brightness:
        pixel = (pixel + plus).clip(0, 255)
    if contrast and not contrast_last:
        pixel = (pixel * times).clip(0, 255)
    h, s, v = colorsys.rgb_to_hsv(*(pixel / 255))
    s = min(1.0, s * richer) if saturation else s
    h = (h + turn / 180) % 1 if hue else h
    pixel = 255 * np.array(colorsys.hsv_to_rgb(h, s, v))
    return (pixel * times).clip(0, 255) if contrast and contrast_last else pixel


def test_distortion_against_a_loop_over_pixels() -> None:
    image = np.array([[[200, 60, 90], [50, 180, 90], [30, 60, 220], [120, 120, 120], [255, 250, 10]]], np.uint8)
    for seed in range(200):
        result = distorted(image, rng(seed))
        for before, after in zip(image[0], result[0]):
            assert np.abs(slow_distortion(before, rng(seed)) - after).max() < 7, seed  # 8 bits, hue in 2 degrees


def test_each_change_happens_half_the_time() -> None:
    gray = np.full((1, 1, 3), 100, np.uint8)  # no hue, no saturation: brightness and contrast alone
    vivid = np.array([[[200, 60, 60], [60, 200, 60]]], np.uint8)
    n, values = 2000, []
    unchanged = sum((distorted(vivid, rng(s)) == vivid).all() for s in range(n)) / n
    for seed in range(n):
        values.append(int(distorted(gray, rng(seed))[0, 0, 0]))
    assert abs(unchanged - 1 / 16) < 0.025
    assert abs(np.mean(np.array(values) == 100) - 0.25) < 0.04
    assert min(values) >= int(0.5 * 68) and max(values) <= 1.5 * 132 and min(values) < 45 and max(values) > 180


def test_weak_views_and_labeled_images_are_distorted() -> None:
    image, mask = picture(), np.zeros((24, 32), np.uint8)
    views = MKDViews((24, 32), scale=(1, 1), flip=0)
    weak = [views.unlabeled(image, rng(s), spec=ViewSpec(strong=1), n_classes=2).weak for s in range(200)]
    labeled = [views.labeled(image, mask, rng(s))[0] for s in range(200)]
    for crops in (weak, labeled):
        assert 0.85 < np.mean([(crop != image).any() for crop in crops]) < 1


def test_strong_views_are_made_of_the_crop_before_its_distortion() -> None:
    image = picture()
    luma = image.astype(float) @ [0.299, 0.587, 0.114]
    gray = [s for seed in range(30) for s in draw(image, 1, seed).strong if (s == s[..., :1]).all()]
    assert len(gray) > 3 and all(np.abs(s[..., 0] - luma).max() < 1 for s in gray)


def test_views_depend_on_the_generator_only() -> None:
    image = picture()
    first, second = draw(image, 3, seed=4), draw(image, 3, seed=4)
    assert (first.strong == second.strong).all() and (first.weak == second.weak).all()
    assert not (draw(image, 3, seed=5).strong == first.strong).all()


def test_images_are_left_alone() -> None:
    image = picture()
    kept = image.copy()
    for seed in range(20):
        distorted(image, rng(seed))
    assert (image == kept).all()


@pytest.mark.parametrize("size", [(1, 1), (1, 40), (3, 2)])
def test_tiny_images_still_give_views(size: tuple[int, int]) -> None:
    views = MKDViews(16)
    for seed in range(10):
        out = views.unlabeled(np.full((*size, 3), 9, np.uint8), rng(seed), spec=ViewSpec(strong=2), n_classes=2)
        assert out.weak.shape == (16, 16, 3) and out.strong.shape == (2, 16, 16, 3)


def test_the_option_holds_every_argument_and_its_default() -> None:
    option = yaml.safe_load((Path(__file__).parents[3] / "conf/transforms/mkd.yaml").read_text())
    assert option.pop("_target_") == "semiseg.data.views.mkd.MKDViews"
    assert option.pop("crop_size") == "${crop_size}"
    defaults = {k: p.default for k, p in inspect.signature(MKDViews).parameters.items() if k != "crop_size"}
    assert option == {name: list(d) if isinstance(d, tuple) else d for name, d in defaults.items()}
