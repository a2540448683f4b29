"""Scores against slow, obvious loops."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from torch import Tensor

from semiseg.labeling.scores import disagreement, entropy, k_center, margin, pooled


def probabilities(*shape: int, seed: int = 0) -> Tensor:
    draw = torch.Generator().manual_seed(seed)
    return (3 * torch.randn(*shape, generator=draw, dtype=torch.float64)).softmax(1)


def pixels(probs: Tensor, image: int) -> list[list[float]]:
    """The probabilities of each pixel of an image."""
    _, _, height, width = probs.shape
    return [probs[image, :, y, x].tolist() for y in range(height) for x in range(width)]


def bits(p: list[float]) -> float:
    return -sum(v * math.log2(v) for v in p if v > 0)


def mean(values: list[float]) -> float:
    return sum(values) / len(values)


def test_entropy_is_that_of_each_pixel_in_its_largest_unit() -> None:
    probs = probabilities(3, 5, 4, 6)
    expected = [mean([bits(p) / math.log2(5) for p in pixels(probs, b)]) for b in range(3)]
    np.testing.assert_allclose(entropy(probs), expected)


def test_margin_compares_the_two_best_classes() -> None:
    probs = probabilities(3, 5, 4, 6)
    expected = []
    for b in range(3):
        ordered = [sorted(p, reverse=True) for p in pixels(probs, b)]
        expected.append(mean([1 - (p[0] - p[1]) for p in ordered]))
    np.testing.assert_allclose(margin(probs), expected)


def test_disagreement_is_the_divergence_from_the_mean_opinion() -> None:
    a, b = probabilities(2, 4, 3, 5), probabilities(2, 4, 3, 5, seed=1)
    expected = []
    for k in range(2):
        found = []
        for p, q in zip(pixels(a, k), pixels(b, k)):
            middle = [(x + y) / 2 for x, y in zip(p, q)]
            found.append(sum(0.5 * x * math.log2(x / m) for r in (p, q) for x, m in zip(r, middle)))
        expected.append(mean(found))
    np.testing.assert_allclose(disagreement(a, b), expected)
    torch.testing.assert_close(disagreement(a, b), disagreement(b, a))


@pytest.mark.parametrize("classes", [2, 7])
def test_the_ends_of_the_scale(classes: int) -> None:
    sure = torch.zeros(1, classes, 2, 3)
    sure[:, 0] = 1
    other = sure.roll(1, 1)
    even = torch.full((1, classes, 2, 3), 1 / classes)
    assert entropy(sure).item() == margin(sure).item() == disagreement(sure, sure).item() == 0
    assert entropy(even).item() == pytest.approx(1) and margin(even).item() == pytest.approx(1)
    assert disagreement(sure, other).item() == pytest.approx(1)


def test_pooled_features_have_length_one_and_forget_places() -> None:
    maps = torch.rand(2, 6, 3, 4)
    torch.testing.assert_close(pooled(maps).norm(dim=1), torch.ones(2))
    torch.testing.assert_close(pooled(maps), pooled(maps.flip(2, 3)))
    mean = maps[0].mean((1, 2))
    torch.testing.assert_close(pooled(maps)[0], mean / mean.norm())


def slow_k_center(candidates: list, centers: list, count: int, weight: list) -> list[int]:
    chosen: list[int] = []
    for _ in range(count):
        best, best_gain = -1, -math.inf
        for i, c in enumerate(candidates):
            if i in chosen:
                continue
            near = min(math.dist(c, other) for other in [*centers, *(candidates[j] for j in chosen)])
            if near * weight[i] > best_gain:
                best, best_gain = i, near * weight[i]
        chosen.append(best)
    return chosen


@pytest.mark.parametrize("weighted", [False, True])
def test_k_center_is_the_greedy_rule(weighted: bool) -> None:
    candidates, centers = torch.rand(12, 3, dtype=torch.float64), torch.rand(2, 3, dtype=torch.float64)
    weight = torch.rand(12, dtype=torch.float64) if weighted else None
    found = k_center(candidates, centers, 7, weight)
    by_hand = slow_k_center(candidates.tolist(), centers.tolist(), 7, [1.0] * 12 if weight is None else weight.tolist())
    assert found.chosen.tolist() == by_hand
    everyone = [*centers.tolist(), *candidates[found.chosen].tolist()]
    for k, (i, distance, near, gain) in enumerate(zip(*(part.tolist() for part in found))):
        there = [math.dist(candidates[i].tolist(), other) for other in everyone[: 2 + k]]
        assert distance == pytest.approx(min(there)) and near == there.index(min(there))
        assert gain == pytest.approx(distance * (1.0 if weight is None else weight[i].item()))


def test_k_center_covers_within_twice_the_best_radius() -> None:
    points, center = torch.rand(9, 2, dtype=torch.float64), torch.rand(1, 2, dtype=torch.float64)

    def radius(chosen) -> float:
        centers = torch.cat([center, points[list(chosen)]])
        return torch.cdist(points, centers).min(1).values.max().item()

    best = min(radius(chosen) for chosen in itertools.combinations(range(9), 3))
    assert radius(k_center(points, center, 3).chosen.tolist()) <= 2 * best + 1e-12


def test_k_center_without_centers_begins_in_the_middle_or_with_the_heaviest() -> None:
    line = torch.tensor([[0.0], [1.0], [2.0], [10.0]], dtype=torch.float64)
    none = torch.zeros(0, 1, dtype=torch.float64)
    first = k_center(line, none, 2)
    assert first.chosen.tolist() == [2, 3] and first.nearest.tolist() == [-1, 0] and math.isinf(first.distance[0])
    assert k_center(line, none, 1, torch.tensor([1.0, 3.0, 2.0, 0.0], dtype=torch.float64)).chosen.tolist() == [1]


def test_k_center_takes_copies_last_and_all_there_are() -> None:
    points = torch.tensor([[0.0, 0.0], [0.0, 0.0], [3.0, 0.0]], dtype=torch.float64)
    found = k_center(points, points[:1], 10)
    assert found.chosen.tolist() == [2, 0, 1] and found.distance.tolist() == [3.0, 0.0, 0.0]
