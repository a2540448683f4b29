from __future__ import annotations

import inspect
from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.utils import get_class, instantiate
from torch import Tensor, nn

from semiseg.errors import InputError
from semiseg.inference import (
    CenterCrop,
    Inference,
    Resize,
    Sliding,
    TestTimeAugmentation,
    Whole,
    most_probable,
)

CONF = Path(__file__).parents[1] / "conf"


@pytest.fixture
def pointwise() -> nn.Module:
    torch.manual_seed(0)
    return nn.Conv2d(3, 5, 1)


def images(batch: int, height: int, width: int) -> Tensor:
    return torch.randn(batch, 3, height, width, generator=torch.Generator().manual_seed(height * width))


class Recorder:
    """Two-class model that keeps the inputs it was shown."""

    def __init__(self) -> None:
        self.seen: list[Tensor] = []

    def __call__(self, x: Tensor) -> Tensor:
        self.seen.append(x)
        return torch.stack([x[:, 0], -x[:, 0]], 1)


def position_code(height: int, width: int) -> Tensor:
    """An image that says where each pixel is: channel 1 its row, channel 2 its column."""
    ys, xs = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    return torch.stack([torch.ones(height, width), ys, xs])[None].float()


def windows_seen(inference: Sliding, height: int, width: int) -> list[tuple[int, int, int, int]]:
    """(top, bottom, left, right) of every window the model met, read off the pixels themselves."""
    model = Recorder()
    inference(model, position_code(height, width))
    windows = [window for x in model.seen for window in x]
    return [(int(w[1, 0, 0]), int(w[1, -1, 0]) + 1, int(w[2, 0, 0]), int(w[2, 0, -1]) + 1) for w in windows]


# What holds for every mode that covers the whole image

SIZES = [(8, 8), (7, 13), (13, 7), (1, 1), (1, 9), (20, 31)]
COVERING = [
    Whole(),
    Resize(multiple=14),
    Resize(size=(9, 6)),
    Sliding(8),
    Sliding((5, 8), stride=0.5, batch=3),
    Sliding(8, border="clip"),
    TestTimeAugmentation(Whole(), scales=(0.5, 1.0, 1.7), flip=True),
    TestTimeAugmentation(Sliding(8), flip=True),
]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("inference", COVERING, ids=lambda x: type(x).__name__)
def test_returns_probabilities_of_the_image_size(inference: Inference, size: tuple[int, int], pointwise) -> None:
    probs = inference(pointwise, images(2, *size))
    assert probs.shape == (2, 5, *size)
    assert probs.dtype == torch.float32
    assert not probs.requires_grad
    torch.testing.assert_close(probs.sum(1), torch.ones(2, *size))
    assert probs.min() >= 0


@pytest.mark.parametrize("inference", COVERING, ids=lambda x: type(x).__name__)
def test_images_of_a_batch_do_not_meet(inference: Inference, pointwise) -> None:
    batch = images(3, 11, 19)
    one_by_one = torch.cat([inference(pointwise, image[None]) for image in batch])
    torch.testing.assert_close(inference(pointwise, batch), one_by_one)


@pytest.mark.parametrize("inference", COVERING, ids=lambda x: type(x).__name__)
def test_leaves_its_input_and_the_labels_alone(inference: Inference, pointwise) -> None:
    x, labels = images(1, 10, 12), torch.zeros(1, 10, 12, dtype=torch.long)
    before = x.clone()
    inference(pointwise, x)
    assert torch.equal(x, before)
    assert inference.crop_labels(labels) is labels


def test_half_precision_logits_give_float32_probabilities() -> None:
    for inference in COVERING:
        assert inference(lambda x: x.bfloat16(), images(1, 6, 6)).dtype == torch.float32


def test_most_probable_is_the_argmax() -> None:
    probs = torch.randn(2, 5, 6, 7).softmax(1)
    assert torch.equal(most_probable(probs), probs.argmax(1))


# Whole and Resize


def test_whole_is_the_softmax(pointwise) -> None:
    x = images(2, 7, 9)
    torch.testing.assert_close(Whole()(pointwise, x), pointwise(x).softmax(1))


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ((28, 42), (28, 42)),
        ((20, 21), (14, 28)),
        ((35, 34), (42, 28)),
        ((3, 6), (14, 14)),
        ((375, 500), (378, 504)),
    ],
)
def test_resize_goes_to_the_nearest_multiple(size: tuple[int, int], expected: tuple[int, int]) -> None:
    model = Recorder()
    Resize(multiple=14)(model, images(1, *size))
    assert tuple(model.seen[0].shape[-2:]) == expected


def test_resize_aligns_corners_both_ways() -> None:
    ramp = torch.linspace(-1, 1, 20).expand(1, 3, 6, 20)  # a linear ramp survives aligned bilinear resizing exactly
    expected = Whole()(Recorder(), ramp)
    torch.testing.assert_close(Resize(multiple=14)(Recorder(), ramp), expected)
    torch.testing.assert_close(Resize(size=9)(Recorder(), ramp), expected)


def test_resize_of_a_fitting_image_is_whole(pointwise) -> None:
    x = images(1, 28, 14)
    assert torch.equal(Resize(multiple=14)(pointwise, x), Whole()(pointwise, x))


# Sliding


def test_cityscapes_windows_of_unimatch() -> None:
    sliding = Sliding(801, border="clip")
    assert sliding.spans(1024, 0) == [(0, 801), (534, 1024)]
    assert sliding.spans(2048, 1) == [(0, 801), (534, 1335), (1068, 1869), (1602, 2048)]


def test_cityscapes_windows_of_unimatch_v2() -> None:
    sliding = Sliding(798)
    assert [start for start, _ in sliding.spans(1024, 0)] == [0, 226]
    assert [start for start, _ in sliding.spans(2048, 1)] == [0, 532, 1064, 1250]
    assert len(windows_seen(sliding, 1024, 2048)) == 8


def loop_spans(size: int, window: int, step: int, border: str) -> list[tuple[int, int]]:
    """The published loops, with a way out for images smaller than the window."""
    spans, start = [], 0
    while True:
        if border == "clip":
            spans.append((start, min(start + window, size)))
            start += step
            if start >= size:
                return spans
        else:
            spans.append((start, start + window))
            if start + window >= size:
                return spans
            start = min(start + step, size - window)


@pytest.mark.parametrize("border", ["shift", "clip"])
@pytest.mark.parametrize("stride", [0.3, 0.5, 2 / 3, 1.0])
def test_spans_equal_the_loops_and_cover_every_pixel(border: str, stride: float) -> None:
    for window in (4, 7, 12):
        sliding = Sliding(window, stride=stride, border=border)
        for size in range(1, 40):
            spans = sliding.spans(size, 0)
            assert spans == loop_spans(size, window, int(window * stride), border)
            assert {y for start, end in spans for y in range(start, end)} >= set(range(size))


@pytest.mark.parametrize("border", ["shift", "clip"])
@pytest.mark.parametrize("batch", [1, 3, 100])
def test_the_model_meets_each_window_once(border: str, batch: int) -> None:
    sliding = Sliding((8, 10), border=border, batch=batch)
    expected = [(*rows, *cols) for rows in sliding.spans(21, 0) for cols in sliding.spans(33, 1)]
    assert sorted(windows_seen(sliding, 21, 33)) == expected


@pytest.mark.parametrize("border", ["shift", "clip"])
@pytest.mark.parametrize("size", SIZES)
def test_sliding_a_pointwise_model_equals_whole(border: str, size: tuple[int, int], pointwise) -> None:
    x = images(2, *size)
    torch.testing.assert_close(Sliding(8, border=border, batch=3)(pointwise, x), Whole()(pointwise, x))


def test_overlapping_windows_are_averaged() -> None:
    """A model whose answer is the position inside the window, against an accumulation by loops."""

    def model(x: Tensor) -> Tensor:
        n, _, h, w = x.shape
        code = torch.arange(h * w).view(1, 1, h, w).expand(n, 1, h, w) / 10
        return torch.cat([code, -code, x[:, :1]], 1)

    x, sliding = images(1, 9, 14), Sliding(6, stride=0.5)
    total, count = torch.zeros(3, 9, 14), torch.zeros(9, 14)
    for top, bottom in sliding.spans(9, 0):
        for left, right in sliding.spans(14, 1):
            total[:, top:bottom, left:right] += model(x[..., top:bottom, left:right])[0].softmax(0)
            count[top:bottom, left:right] += 1
    assert count.max() > 1
    torch.testing.assert_close(sliding(model, x)[0], total / count)


def test_window_of_the_image_size_is_one_whole_forward() -> None:
    model, x = Recorder(), images(2, 12, 16)
    probs = Sliding((12, 16))(model, x)
    assert len(model.seen) == 1
    assert torch.equal(model.seen[0], x)
    assert torch.equal(probs, Whole()(Recorder(), x))


@pytest.mark.parametrize("size", [(5, 20), (20, 5), (5, 5)])
def test_small_images_are_padded_to_full_windows(size: tuple[int, int]) -> None:
    model, x = Recorder(), images(1, *size)
    Sliding(8)(model, x)
    assert {tuple(seen.shape[-2:]) for seen in model.seen} == {(8, 8)}
    first = model.seen[0][0]
    height, width = min(8, size[0]), min(8, size[1])
    assert torch.equal(first[:, :height, :width], x[0, :, :height, :width])
    assert first[:, height:].abs().sum() + first[:, :, width:].abs().sum() == 0


def test_windows_of_all_images_share_forwards() -> None:
    model = Recorder()
    Sliding(8, batch=4)(model, images(3, 8, 12))  # 3 images of 2 windows
    assert [len(x) for x in model.seen] == [4, 2]


# CenterCrop


@pytest.mark.parametrize(("size", "expected"), [(4, (4, 4)), ((3, 100), (3, 9)), (100, (8, 9))])
def test_center_crop_takes_image_and_label_alike(size, expected: tuple[int, int]) -> None:
    crop, model = CenterCrop(size), Recorder()
    code = position_code(8, 9)
    probs = crop(model, code)
    assert probs.shape[-2:] == expected
    assert torch.equal(crop.crop_labels(code[:, 1]), model.seen[0][:, 1])
    assert torch.equal(crop.crop_labels(code[:, 2]), model.seen[0][:, 2])


def test_center_crop_is_central() -> None:
    assert CenterCrop(2).crop_labels(torch.arange(6).view(1, 1, 6)).tolist() == [[[2, 3]]]


# TestTimeAugmentation


def test_without_options_it_is_its_base(pointwise) -> None:
    x = images(2, 9, 7)
    assert torch.equal(TestTimeAugmentation(Whole())(pointwise, x), Whole()(pointwise, x))


@pytest.mark.parametrize("base", [Whole(), Sliding(5), Resize(multiple=4)], ids=lambda x: type(x).__name__)
def test_flip_makes_any_model_equivariant(base: Inference) -> None:
    torch.manual_seed(0)
    model = nn.Conv2d(3, 4, 3, padding=1)  # not symmetric by itself
    x = images(1, 9, 11)
    inference = TestTimeAugmentation(base, scales=(0.75, 1.0), flip=True)
    probs, mirrored = inference(model, x), inference(model, x.flip(-1))
    torch.testing.assert_close(mirrored.flip(-1), probs)
    assert not torch.allclose(base(model, x.flip(-1)).flip(-1), base(model, x))


def test_scales_reach_the_model_and_are_averaged() -> None:
    sizes = []

    def model(x: Tensor) -> Tensor:
        sizes.append(tuple(x.shape[-2:]))
        return torch.tensor([len(sizes), 0.0, 0.0]).view(1, 3, 1, 1).expand(len(x), 3, *x.shape[-2:])

    probs = TestTimeAugmentation(Whole(), scales=(0.5, 1.0, 1.5), flip=False)(model, images(1, 7, 10))
    assert sizes == [(4, 5), (7, 10), (10, 15)]
    expected = torch.stack([torch.tensor([k, 0.0, 0.0]).softmax(0) for k in (1.0, 2.0, 3.0)]).mean(0)
    torch.testing.assert_close(probs[0, :, 3, 4], expected)


# Wrong arguments, and the configuration files


@pytest.mark.parametrize(
    ("mode", "arguments"),
    [
        (Resize, {}),
        (Resize, {"multiple": 14, "size": 28}),
        (Resize, {"multiple": 0}),
        (Resize, {"size": [1, 2, 3]}),
        (Sliding, {"window": 0}),
        (Sliding, {"window": 8, "stride": 0}),
        (Sliding, {"window": 8, "stride": 1.1}),
        (Sliding, {"window": 8, "stride": 0.1}),
        (Sliding, {"window": 8, "border": "reflect"}),
        (Sliding, {"window": 8, "batch": 0}),
        (CenterCrop, {"size": -1}),
        (TestTimeAugmentation, {"base": Whole(), "scales": []}),
        (TestTimeAugmentation, {"base": Whole(), "scales": [1, 0]}),
        (TestTimeAugmentation, {"base": CenterCrop(8)}),
    ],
)
def test_wrong_arguments_name_the_key(mode: type[Inference], arguments: dict) -> None:
    with pytest.raises(InputError, match=r"^(eval[.:]|[a-z]+=.*allowed)"):
        mode(**arguments)


@pytest.mark.parametrize("option", sorted(path.stem for path in (CONF / "eval").glob("*.yaml")))
def test_every_option_builds_with_all_its_arguments_shown(option: str) -> None:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose(f"eval/{option}", overrides=["+crop_size=12"])
    mode = instantiate(config.eval, _convert_="all")
    assert mode(Recorder(), images(1, 28, 28)).shape[:2] == (1, 2)
    names = inspect.signature(get_class(config.eval._target_)).parameters
    assert set(config.eval) - {"_target_"} == set(names)


def test_augmentation_wraps_any_mode_from_the_command_line() -> None:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        overrides = ["+crop_size=[4,6]", "eval@eval.base=sliding", "eval.flip=false"]
        mode = instantiate(compose("eval/tta", overrides=overrides).eval, _convert_="all")
    assert isinstance(mode.base, Sliding)
    assert mode.base.window == (4, 6)
