"""Stability of predictions against a loop; erased boxes."""

from __future__ import annotations

import math

import pytest
import torch

from semiseg.ops.self_training import erased, image_miou, most_stable, stability

C = 5


def slow_miou(a: torch.Tensor, b: torch.Tensor) -> float:
    ious = []
    for c in range(C):
        either = ((a == c) | (b == c)).sum().item()
        if either:
            ious.append(((a == c) & (b == c)).sum().item() / either)
    return sum(ious) / len(ious)


def test_miou_of_each_image_against_a_loop() -> None:
    a, b = torch.randint(0, 4, (3, 6, 7)), torch.randint(0, 3, (3, 6, 7))  # class 4 is in neither
    got = image_miou(a, b, C)
    assert got.tolist() == pytest.approx([slow_miou(x, y) for x, y in zip(a, b)])
    assert image_miou(b, a, C).tolist() == pytest.approx(got.tolist())


def test_a_class_of_neither_is_skipped_and_one_of_one_counts_as_nothing() -> None:
    a = torch.tensor([[[0, 0, 1, 1]]])
    b = torch.tensor([[[0, 0, 0, 0]]])
    assert image_miou(a, b, C).item() == pytest.approx((0.5 + 0.0) / 2)
    assert image_miou(b, b, C).item() == 1.0


def test_equal_predictions_are_perfectly_stable() -> None:
    final = torch.randint(0, C, (4, 5, 6))
    assert stability([final, final], final, C).tolist() == [1.0] * 4


def test_stability_is_the_mean_over_earlier_predictions() -> None:
    early, middle, final = (torch.randint(0, C, (2, 5, 6)) for _ in range(3))
    expected = (image_miou(early, final, C) + image_miou(middle, final, C)) / 2
    torch.testing.assert_close(stability([early, middle], final, C), expected)


@pytest.mark.parametrize("n", [0, 1, 2, 7])
def test_half_of_the_images_rounded_down_ties_in_order(n: int) -> None:
    assert most_stable(torch.ones(n)).tolist() == list(range(n // 2))
    assert len(most_stable(torch.rand(n))) == math.floor(n / 2)


def test_the_largest_scores_come_first() -> None:
    assert most_stable(torch.tensor([0.1, 0.9, 0.3, 0.9, 0.2])).tolist() == [1, 3]


def test_erased_pixels_are_noise_in_the_range_of_their_channel() -> None:
    images = torch.rand(2, 3, 40, 40) * torch.tensor([1.0, 10.0, 100.0]).view(3, 1, 1)
    mask = torch.zeros(2, 40, 40, dtype=torch.bool)
    mask[1, :30] = True
    out = erased(images, mask)
    assert torch.equal(out[0], images[0]) and torch.equal(out[1, :, 30:], images[1, :, 30:])
    noise = out[1, :, :30]
    assert not (noise == images[1, :, :30]).any()
    for c, high in enumerate((1.0, 10.0, 100.0)):
        assert noise[c].min() >= 0 and noise[c].max() <= high
        assert noise[c].mean().item() == pytest.approx(high / 2, rel=0.05)
