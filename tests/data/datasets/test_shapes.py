from __future__ import annotations

import hashlib

import numpy as np
import pytest

from semiseg.data.datasets import shapes
from semiseg.data.datasets.shapes import Shapes, draw_scene
from semiseg.errors import InputError


def digest(dataset: Shapes, image_id: str) -> str:
    return hashlib.sha256(dataset.load_image(image_id).tobytes() + dataset.load_mask(image_id).tobytes()).hexdigest()


def test_images_depend_on_seed_split_and_index_only():
    one, other = Shapes(n_train=8), Shapes(n_train=300, cache=False)
    assert [digest(one, i) for i in one.ids("train")] == [digest(other, i) for i in reversed(one.ids("train"))][::-1]
    scenes = [digest(one, i) for split in ("train", "val", "test") for i in one.ids(split)[:8]]
    scenes += [digest(Shapes(seed=1), i) for i in one.ids("train")]
    assert len(set(scenes)) == len(scenes)


def test_shape_type_and_labels():
    dataset = Shapes(size=(64, 80), n_train=3, n_val=2, n_test=1)
    for split, count in (("train", 3), ("val", 2), ("test", 1)):
        ids = dataset.ids(split)
        assert len(ids) == count
        assert ids == sorted(ids)
        for image_id in ids:
            image, mask = dataset.load_image(image_id), dataset.load_mask(image_id)
            assert (image.shape, image.dtype) == ((64, 80, 3), np.uint8)
            assert (mask.shape, mask.dtype) == ((64, 80), np.uint8)
            assert mask.max() < len(dataset.classes)
            assert dataset.has_mask(image_id)


def test_classes_are_balanced_and_background_is_the_larger_part():
    dataset = Shapes(cache=False)
    masks = [dataset.load_mask(i) for i in dataset.ids("train")[:256]]
    pixels = np.bincount(np.concatenate(masks, axis=None), minlength=len(dataset.classes))
    images = np.sum([np.bincount(np.unique(m), minlength=len(dataset.classes)) for m in masks], 0)
    assert 0.5 < pixels[0] / pixels.sum() < 0.75
    assert pixels[1:].max() < 1.7 * pixels[1:].min()
    assert images[1:].min() > 0.3 * len(masks)


def test_the_mask_lies_on_the_object():
    """Edges of the mask are edges of the image, since objects differ in color from what is around them."""
    on_edge, elsewhere = [], []
    for seed in range(30):
        image, mask = draw_scene(np.random.default_rng(seed), 96, 96)
        step = np.abs(np.diff(image.astype(float), axis=1)).sum(2)
        edge = np.diff(mask, axis=1) != 0
        on_edge.append(step[edge].mean())
        elsewhere.append(step[~edge].mean())
    assert np.mean(on_edge) > 3 * np.mean(elsewhere)


def test_returned_arrays_may_be_written_to():
    dataset = Shapes(n_train=1)
    before = digest(dataset, "train_00000")
    dataset.load_image("train_00000")[:] = 0
    dataset.load_mask("train_00000")[:] = 0
    assert digest(dataset, "train_00000") == before


@pytest.mark.parametrize(("cache", "drawn"), [(True, 1), (False, 3)])
def test_cache_draws_once(monkeypatch, cache, drawn):
    calls = []
    monkeypatch.setattr(shapes, "draw_scene", lambda *args: calls.append(args) or draw_scene(*args))
    dataset = Shapes(cache=cache)
    for load in (dataset.load_image, dataset.load_mask, dataset.load_image):
        load("train_00003")
    assert len(calls) == drawn


@pytest.mark.parametrize("size", [(16, 16), (33, 120), (200, 40)])
def test_any_size(size):
    image, mask = draw_scene(np.random.default_rng(0), *size)
    assert image.shape == (*size, 3)
    assert mask.shape == size


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({"size": (8, 96)}, "size=.*from 16 to 4096"),
        ({"size": (96,)}, "size="),
        ({"n_val": 0}, "n_val=0"),
    ],
)
def test_wrong_arguments(arguments, expected):
    with pytest.raises(InputError, match=expected):
        Shapes(**arguments)


@pytest.mark.parametrize("image_id", ["train_99999", "train", "trains_00000", "train_x", "7"])
def test_unknown_image(image_id):
    with pytest.raises(InputError, match="has no image"):
        Shapes().load_image(image_id)


def test_unknown_split():
    with pytest.raises(InputError, match="did you mean 'train'"):
        Shapes().ids("trian")
