"""The colors of AugSeg: how many operations, which, and what each does."""

from __future__ import annotations

import inspect
from collections import Counter
from pathlib import Path

import albumentations as A
import numpy as np
import pytest
import yaml

from semiseg.data.batch import ViewSpec
from semiseg.data.views import augseg
from semiseg.data.views.augseg import AugSegViews, Softened


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def picture(height: int = 24, width: int = 32) -> np.ndarray:
    return rng(3).integers(30, 220, (height, width, 3)).astype(np.uint8)


def draw(image: np.ndarray, n: int, seed: int = 0):
    views = AugSegViews(image.shape[:2], scale=(1, 1), flip=0)
    return views.unlabeled(image, rng(seed), spec=ViewSpec(strong=n), n_classes=2)


def test_one_two_or_three_operations_with_equal_chance(monkeypatch) -> None:
    class PlusOne(A.ImageOnlyTransform):
        def apply(self, img, **params):
            return img + 1

    monkeypatch.setattr(augseg, "operation", lambda: A.OneOf([PlusOne(p=1)], p=1))
    n = 3000
    counts = Counter(int(strong[0, 0, 0]) for strong in draw(np.zeros((2, 2, 3), np.uint8), n).strong)
    assert set(counts) == {1, 2, 3}
    assert all(abs(count / n - 1 / 3) < 3 * (2 / 9 / n) ** 0.5 for count in counts.values())


def test_each_of_the_eleven_operations_has_the_same_chance() -> None:
    choice = augseg.operation()
    assert len(choice.transforms) == 11 and choice.p == 1
    assert np.allclose(choice.transforms_ps, 1 / 11)


def test_softening_is_a_blend_with_a_smoothed_copy() -> None:
    image = picture(6, 7)
    kernel = np.array([[1, 1, 1], [1, 5, 1], [1, 1, 1]]) / 13
    result = Softened((0.3, 0.3))(image=image)["image"]
    assert (result[0] == image[0]).all() and (result[:, -1] == image[:, -1]).all()
    for y in range(1, 5):
        for x in range(1, 6):
            smooth = (image[y - 1 : y + 2, x - 1 : x + 2] * kernel[..., None]).sum((0, 1))
            assert np.abs(0.3 * image[y, x] + 0.7 * smooth - result[y, x]).max() <= 1.0


@pytest.mark.parametrize("place", [4, 5, 6, 7])
def test_factors_lie_below_one(place: int) -> None:
    """Contrast, brightness, saturation and sharpness only ever get weaker."""
    image, transform = picture(), augseg.operation().transforms[place]
    spread = {
        4: lambda x: x.astype(float).mean(-1).std(),
        5: lambda x: x.mean(),
        6: lambda x: np.ptp(x.astype(int), axis=-1).mean(),
        7: lambda x: np.abs(np.diff(x[1:-1, 1:-1].astype(int), axis=1)).mean(),
    }[place]
    values = [spread(transform(image=image)["image"]) / spread(image) for _ in range(100)]
    assert max(values) < 1 and max(values) - min(values) > 0.3


def test_weak_views_and_labeled_images_keep_their_colors() -> None:
    image, mask = picture(), np.zeros((24, 32), np.uint8)
    views = AugSegViews((24, 32), scale=(1, 1), flip=0)
    assert (draw(image, 1).weak == image).all()
    assert (views.labeled(image, mask, rng())[0] == image).all()


def test_views_depend_on_the_generator_only() -> None:
    image = picture()
    first, second, third = (draw(image, 8, seed).strong for seed in (4, 4, 5))
    assert (first == second).all() and not (first == third).all()
    assert len({strong.tobytes() for strong in first}) > 4


@pytest.mark.parametrize("size", [(1, 1), (1, 40), (3, 2)])
def test_tiny_images_still_give_views(size: tuple[int, int]) -> None:
    for seed in range(20):
        out = AugSegViews(16).unlabeled(
            np.full((*size, 3), 9, np.uint8), rng(seed), spec=ViewSpec(strong=2), n_classes=2
        )
        assert out.strong.shape == (2, 16, 16, 3) and out.strong.dtype == np.uint8


def test_the_option_holds_every_argument_and_its_default() -> None:
    option = yaml.safe_load((Path(__file__).parents[3] / "conf/transforms/augseg.yaml").read_text())
    assert option.pop("_target_") == "semiseg.data.views.augseg.AugSegViews"
    assert option.pop("crop_size") == "${crop_size}"
    defaults = {k: p.default for k, p in inspect.signature(AugSegViews).parameters.items() if k != "crop_size"}
    assert option == {name: list(d) if isinstance(d, tuple) else d for name, d in defaults.items()}
