"""Units, masks and losses over pairs, against slow loops. Numbers in brackets: section 13 of the method's notes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from semiseg.ops.masking import (
    MIXED,
    UNUSED,
    Masking,
    Units,
    choose_classes,
    feature_aggregation,
    hide,
    members,
    normalized_per_unit,
    reconstruction_loss,
    unit_labels,
)

K = 4


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


# -- units ----------------------------------------------------------------------------------------------------


def unit_labels_by_loops(labels: Tensor, keep: Tensor, size: int, coverage: float) -> Tensor:
    b, h, w = labels.shape
    result = torch.full((b, -(-h // size), -(-w // size)), MIXED)
    for i, r, c in ((i, r, c) for i in range(b) for r in range(result.shape[1]) for c in range(result.shape[2])):
        counts = [0] * K
        for y in range(r * size, min(h, (r + 1) * size)):
            for x in range(c * size, min(w, (c + 1) * size)):
                counts[labels[i, y, x]] += bool(keep[i, y, x])
        largest = max(counts)
        if largest >= coverage * size**2 and counts.count(largest) == 1:
            result[i, r, c] = counts.index(largest)
    return result


@pytest.mark.parametrize("size", [1, 3, 4, 16])
@pytest.mark.parametrize("coverage", [0.0, 0.25, 0.5])
def test_unit_labels_agree_with_loops(size: int, coverage: float) -> None:
    labels = torch.randint(K, (3, 2, 3)).repeat_interleave(5, 1).repeat_interleave(4, 2)  # 10 x 12 in blocks
    keep = torch.rand(labels.shape) < 0.8
    got = unit_labels(labels, keep, K, size, coverage)
    assert torch.equal(got, unit_labels_by_loops(labels, keep, size, coverage))


def test_a_unit_counts_its_whole_area_and_equal_halves_are_mixed() -> None:
    labels, keep = torch.zeros(1, 4, 6, dtype=torch.long), torch.ones(1, 4, 6, dtype=torch.bool)
    assert unit_labels(labels, keep, 2, 4, 0.5).tolist() == [[[0, 0]]]  # half a unit at the border is enough
    assert unit_labels(labels, keep, 2, 4, 0.51).tolist() == [[[0, MIXED]]]
    labels[:, :2, :4] = 1
    assert unit_labels(labels, keep, 2, 4, 0.5).tolist() == [[[MIXED, 0]]]
    assert unit_labels(labels, ~keep, 2, 4, 0.0).tolist() == [[[MIXED, MIXED]]]


@pytest.mark.parametrize("stride", [1, 2, 1.75, 3])
def test_a_cell_has_the_label_of_the_unit_under_its_middle(stride: float) -> None:
    units = Units(torch.randint(K, (2, 3, 2)), torch.rand(2, 3, 2) < 0.5, 14)
    grid = (int(40 / stride), int(28 / stride))
    got, hidden = units.labels_at(grid, stride), units.hidden_at(grid, stride)
    for y in range(grid[0]):
        for x in range(grid[1]):
            unit = (slice(None), int((y + 0.5) * stride // 14), int((x + 0.5) * stride // 14))
            assert torch.equal(got[:, y, x], units.labels[unit]) and torch.equal(hidden[:, y, x], units.hidden[unit])


# -- which units are hidden (1) -------------------------------------------------------------------------------


@pytest.mark.parametrize("ratio", [0.3, 0.5, 0.7, 0.05, 0.99])
def test_stratification(ratio: float) -> None:
    labels = torch.randint(-1, K, (16, 5, 6))
    labels[0], labels[1] = MIXED, 2
    labels[2].fill_(0).view(-1)[7] = 1  # the only one of its class
    hidden = hide(labels, K, ratio)
    assert not hidden[labels == MIXED].any()
    for i in range(len(labels)):
        for c in range(K):
            n, m = int((labels[i] == c).sum()), int(hidden[i][labels[i] == c].sum())
            assert m == (min(max(round(ratio * n), 1), n - 1) if n >= 2 else 0)


@pytest.mark.parametrize("ratio", [0.3, 0.5, 0.7])
def test_the_number_of_hidden_units_is_rounded_half_to_even(ratio: float) -> None:
    for n in range(2, 60):
        m = round(float(np.float32(ratio) * np.float32(n)))
        assert hide(torch.zeros(1, 1, n, dtype=torch.long), 2, ratio).sum() == min(max(m, 1), n - 1)


def test_no_unit_is_preferred() -> None:
    labels = torch.tensor([[0, 1, 0, 1, 1], [MIXED, 1, 0, 1, 0]]).expand(4000, 2, 5)
    share = hide(labels, 2, 0.5).float().mean(dim=0)
    expected = torch.tensor([[0.5, 2 / 5, 0.5, 2 / 5, 2 / 5], [0.0, 2 / 5, 0.5, 2 / 5, 0.5]])
    assert torch.allclose(share, expected, atol=0.04)


def test_a_ratio_of_zero_hides_nothing() -> None:
    assert not hide(torch.zeros(2, 3, 3, dtype=torch.long), K, 0.0).any()


def test_masking_by_class_and_at_random() -> None:
    labels = torch.randint(K, (4, 12, 20)).repeat_interleave(4, 1).repeat_interleave(4, 2)
    keep = torch.ones_like(labels, dtype=torch.bool)
    keep[:, :8] = False
    by_class = Masking(ratio=0.5).for_stride(4)
    assert by_class.unit_size == 32
    units = Masking(unit_size=8, ratio=0.5)(labels, keep, K)
    assert torch.equal(units.labels, unit_labels(labels, keep, K, 8, 0.5)) and not units.hidden[:, 0].any()
    plain = Masking(law="random", unit_size=8, ratio=0.3)(labels, keep, K)
    assert plain.hidden.sum(dim=(1, 2)).tolist() == [round(0.3 * 60)] * 4
    assert plain.hidden[plain.labels == MIXED].any()


@pytest.mark.parametrize("stride,size", [(8, 32), (14, 28), (16, 32), (32, 32), (64, 64)])
def test_the_size_of_a_unit_is_the_multiple_of_the_stride_nearest_to_32(stride: int, size: int) -> None:
    assert Masking().for_stride(stride).unit_size == size


@pytest.mark.parametrize(
    "kwargs,key", [({"law": "x"}, "law"), ({"ratio": 1.0}, "ratio"), ({"coverage": 1.5}, "coverage")]
)
def test_masking_names_a_wrong_value(kwargs: dict, key: str) -> None:
    with pytest.raises(ValueError, match=rf"^{key}=.*allowed"):
        Masking(**kwargs)


@pytest.mark.parametrize("size", [8, 24])
def test_a_unit_is_made_of_whole_cells(size: int) -> None:
    with pytest.raises(ValueError, match=rf"method\.mask\.unit_size={size}: allowed are multiples of 16"):
        Masking(unit_size=size).for_stride(16)


# -- pairs ----------------------------------------------------------------------------------------------------


def test_pairs_are_the_classes_with_hidden_and_visible_units() -> None:
    labels = torch.randint(-1, K, (32, 3, 3))
    units = Units(labels, torch.rand(labels.shape) < 0.5, 8)
    for limit in (1, 3, 99):
        classes = choose_classes(units, K, limit)
        assert classes.shape == (32, min(limit, K))
        for i in range(32):
            active = {c for c in range(K) if len({bool(x) for x in units.hidden[i][labels[i] == c]}) == 2}
            got = [c for c in classes[i].tolist() if c != UNUSED]
            assert len(got) == len(set(got)) == min(limit, len(active)) and set(got) <= active


def test_a_cap_on_the_classes_draws_at_random() -> None:
    labels = torch.arange(K).repeat(2).expand(4000, 1, 2 * K)
    hidden = (torch.arange(2 * K) < K).expand(labels.shape)
    drawn = torch.bincount(choose_classes(Units(labels, hidden, 8), K, 1).flatten(), minlength=K)
    assert (drawn.float() / 4000 - 1 / K).abs().max() < 0.04


def test_an_unused_pair_has_no_members_not_even_mixed_units() -> None:
    labels = torch.tensor([[[MIXED, 0, 1]]])
    assert members(labels, torch.tensor([[0, UNUSED]])).tolist() == [[[[False, True, False]], [[False] * 3]]]


# -- reconstruction -------------------------------------------------------------------------------------------


def pairs_of_regions(b: int = 2, n: int = 3, h: int = 6, w: int = 8) -> Tensor:
    """(B, N, h, w) bool, disjoint in n; the last pair of the first image is empty."""
    owner = torch.randint(n + 1, (b, 1, h, w))
    region = owner == torch.arange(n)[:, None, None]
    region[0, -1] = False
    return region


def test_reconstruction_agrees_with_loops() -> None:
    rebuilt, images, region = (
        torch.randn(2, 3, 3, 6, 8, requires_grad=True),
        torch.randn(2, 3, 6, 8),
        pairs_of_regions(),
    )
    losses = []
    for i, j in ((i, j) for i in range(2) for j in range(3)):
        at = [(y, x) for y in range(6) for x in range(8) if region[i, j, y, x]]
        if at:
            losses.append(sum((rebuilt[i, j, :, y, x] - images[i, :, y, x]).abs().sum() for y, x in at) / (3 * len(at)))
    expected = sum(losses) / len(losses)
    got = reconstruction_loss(rebuilt, images, region)
    assert len(losses) == 5 and got.item() == pytest.approx(expected.item(), rel=1e-5)
    torch.testing.assert_close(*(torch.autograd.grad(x, rebuilt)[0] for x in (got, expected)), rtol=1e-5, atol=1e-8)
    low = reconstruction_loss(rebuilt.bfloat16(), images, region)
    assert low.dtype == torch.float32 and low.item() == pytest.approx(expected.item(), rel=1e-2)


def test_only_hidden_pixels_count() -> None:  # (3)
    rebuilt, images, region = torch.randn(2, 3, 3, 6, 8), torch.randn(2, 3, 6, 8), pairs_of_regions()
    changed = images + 7.3 * ~region.any(dim=1)[:, None]
    before = reconstruction_loss(rebuilt, images, region)
    assert not torch.equal(changed, images) and torch.equal(before, reconstruction_loss(rebuilt, changed, region))


def test_every_class_weighs_the_same_whatever_its_area() -> None:  # (5)
    region = torch.zeros(1, 2, 4, 4, dtype=torch.bool)
    region[0, 0, 0, 0], region[0, 1, 1:] = True, True
    rebuilt = torch.zeros(1, 2, 3, 4, 4)
    rebuilt[0, 0], rebuilt[0, 1] = 3.0, 1.0
    assert reconstruction_loss(rebuilt, torch.zeros(1, 3, 4, 4), region).item() == pytest.approx((3 + 1) / 2)


def test_reconstruction_of_nothing_is_zero_with_a_graph() -> None:
    rebuilt = torch.randn(1, 2, 3, 4, 4, requires_grad=True)
    loss = reconstruction_loss(rebuilt, torch.randn(1, 3, 4, 4), torch.zeros(1, 2, 4, 4, dtype=torch.bool))
    loss.backward()
    assert loss.item() == 0 and not rebuilt.grad.any()


@pytest.mark.parametrize("shape", [(16, 24), (20, 13), (5, 6)])
def test_the_normalized_target_agrees_with_loops(shape: tuple[int, int]) -> None:
    images = 3 * torch.randn(2, 3, *shape) + 1
    got = normalized_per_unit(images, 8)
    for i in range(2):
        for y in range(0, shape[0], 8):
            for x in range(0, shape[1], 8):
                unit = images[i, :, y : y + 8, x : x + 8]
                expected = (unit - unit.mean()) / (unit.var(unbiased=False) + 1e-6).sqrt()
                torch.testing.assert_close(got[i, :, y : y + 8, x : x + 8], expected, rtol=1e-4, atol=1e-5)
    assert normalized_per_unit(torch.ones(1, 3, 8, 8), 8).abs().max() < 1e-3  # a flat unit is no NaN


# -- feature aggregation (7) ----------------------------------------------------------------------------------


def hidden_and_visible() -> tuple[Tensor, Tensor]:
    region = pairs_of_regions()
    hidden = torch.rand(2, 1, 6, 8) < 0.4
    hidden[1, :, region[1, 1]] = True  # one pair without a visible cell
    return region & hidden, region & ~hidden


def aggregation_by_loops(z: Tensor, hidden: Tensor, visible: Tensor, distance: str) -> Tensor:
    losses = []
    for i, j in ((i, j) for i in range(2) for j in range(3)):
        unit = [[z[i, :, y, x] / (1 if distance == "l2" else z[i, :, y, x].norm()) for x in range(8)] for y in range(6)]
        out, seen = ([unit[y][x] for y in range(6) for x in range(8) if m[i, j, y, x]] for m in (hidden, visible))
        if not out or not seen:
            continue
        center = (sum(seen) / len(seen)).detach()
        if distance == "l2":
            losses.append(sum((v - center).square().mean() for v in out) / len(out))
            continue
        center = center / center.norm()
        if distance == "proto":
            mean = sum(out) / len(out)
            out = [mean / mean.norm()]
        losses.append(sum(1 - v @ center for v in out) / len(out))
    assert 0 < len(losses) < 6
    return sum(losses) / len(losses)


@pytest.mark.parametrize("distance", ["cosine", "l2", "proto"])
def test_aggregation_agrees_with_loops(distance: str) -> None:
    z, (hidden, visible) = torch.randn(2, 5, 6, 8, requires_grad=True), hidden_and_visible()
    expected = aggregation_by_loops(z, hidden, visible, distance)
    got = feature_aggregation(z, hidden, visible, distance=distance)
    assert got.item() == pytest.approx(expected.item(), rel=1e-5)
    torch.testing.assert_close(*(torch.autograd.grad(x, z)[0] for x in (got, expected)), rtol=1e-4, atol=1e-7)
    with torch.autocast("cpu", torch.bfloat16):
        low = feature_aggregation(z.bfloat16(), hidden, visible, distance=distance)
        same = feature_aggregation(z, hidden, visible, distance=distance)
    assert low.dtype == torch.float32 and low.item() == pytest.approx(expected.item(), rel=1e-2)
    assert torch.equal(same, got)  # float32 inside, whatever the autocast type


def test_aggregation_of_constant_features_is_zero() -> None:
    z = torch.randn(2, 5, 1, 1).expand(2, 5, 6, 8)
    for distance in ("cosine", "l2", "proto"):
        assert feature_aggregation(z, *hidden_and_visible(), distance=distance).item() == pytest.approx(0, abs=1e-6)


def test_aggregation_has_no_scale_and_lies_between_0_and_2() -> None:
    z, masks = torch.randn(2, 5, 6, 8), hidden_and_visible()
    loss = feature_aggregation(z, *masks)
    assert 0 <= loss <= 2 and feature_aggregation(7 * z, *masks).item() == pytest.approx(loss.item(), rel=1e-6)
    opposite = torch.where(masks[0].any(dim=1)[:, None], -1.0, 1.0).expand(2, 5, 6, 8)
    assert feature_aggregation(opposite, *masks).item() == pytest.approx(2, rel=1e-6)


def test_aggregation_moves_hidden_cells_only_and_across_their_direction() -> None:
    z, (hidden, visible) = torch.randn(2, 5, 6, 8, requires_grad=True), hidden_and_visible()
    (grad,) = torch.autograd.grad(feature_aggregation(z, hidden, visible), z)
    moved = hidden.any(dim=1)
    assert not (grad * ~moved[:, None]).any() and grad.abs().sum() > 0
    assert (grad * z).sum(dim=1).abs().max() < 1e-6
    (both,) = torch.autograd.grad(feature_aggregation(z, hidden, visible, detach_visible=False), z)
    assert (both * visible.any(dim=1)[:, None]).any()


def test_aggregation_of_nothing_and_of_zeros_is_no_nan() -> None:
    z = torch.zeros(2, 5, 6, 8, requires_grad=True)
    hidden, visible = hidden_and_visible()
    for masks in ((hidden & False, visible & False), (hidden, visible & False), (hidden, visible)):
        for distance in ("cosine", "l2", "proto"):
            loss = feature_aggregation(z, *masks, distance=distance, detach_visible=False)
            (grad,) = torch.autograd.grad(loss, z)
            assert loss.isfinite() and grad.isfinite().all()
    assert feature_aggregation(F.normalize(z), hidden, visible & False).item() == 0
