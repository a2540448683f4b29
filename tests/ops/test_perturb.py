from __future__ import annotations

import pytest
import torch

from semiseg.ops import perturb
from semiseg.ops.perturb import comp_drop, complementary_mask


@pytest.mark.parametrize("n", [1, 2, 3, 4, 7])
def test_what_one_view_drops_the_other_doubles_and_half_of_the_images_stay_whole(n: int) -> None:
    mask = complementary_mask(n, 64)
    first, second = mask.chunk(2)
    assert mask.shape == (2 * n, 64) and mask.dtype == torch.float32
    assert torch.equal(first + second, torch.full((n, 64), 2.0))
    whole = [i for i in range(n) if (first[i] == 1).all() and (second[i] == 1).all()]
    assert len(whole) == int(0.5 * n)
    for i in set(range(n)) - set(whole):
        assert set(first[i].tolist()) == {0.0, 2.0}


def test_channels_are_dropped_with_one_half_and_images_chosen_evenly() -> None:
    masks = torch.stack([complementary_mask(3, 50) for _ in range(600)])[:, :3]  # 600 draws, 3 images, 50 channels
    whole = (masks == 1).all(2)
    assert torch.all((whole.float().mean(0) - 1 / 3).abs() < 0.08)
    assert (masks[~whole].mean() - 1.0).abs() < 0.03
    assert masks[~whole].unique(dim=0).shape[0] == 1200  # drawn for every image


def test_maps_of_equal_channels_share_one_mask_that_is_constant_over_the_map() -> None:
    levels = [torch.rand(8, 12, h, h + 1) + 1 for h in (5, 5, 5, 3)]
    dropped = comp_drop(levels)
    masks = [d / x for d, x in zip(dropped, levels)]
    for mask in masks:
        assert torch.equal(mask, masks[0][:, :, :1, :1].expand_as(mask))
    assert set(masks[0].unique().tolist()) == {0.0, 1.0, 2.0}


def test_levels_of_other_channels_draw_their_own() -> None:
    levels = [torch.ones(8, c, 2, 2) for c in (40, 80, 160)]
    masks = [x[:, :, 0, 0] for x in comp_drop(levels)]
    for mask in masks:
        first, second = mask.chunk(2)
        assert torch.equal(first + second, torch.full_like(first, 2.0)) and int((first == 1).all(1).sum()) == 2
    cut = (masks[0] != 1).all(1) & (masks[1] != 1).all(1)
    assert any(not torch.equal(a[:40], b[:40]) for a, b in zip(masks[0][cut], masks[1][cut]))


def test_whole_images_pass_bit_for_bit(monkeypatch) -> None:
    monkeypatch.setattr(perturb, "complementary_mask", lambda n, c, device: torch.ones(2 * n, c))
    for dtype in (torch.float32, torch.bfloat16):
        levels = [torch.randn(4, c, 3, 5, dtype=dtype) for c in (6, 6, 7)]
        assert all(torch.equal(a, b) for a, b in zip(comp_drop(levels), levels))


def test_half_precision_is_kept_and_exact() -> None:
    x = torch.randn(6, 9, 4, 4)
    torch.manual_seed(5)
    exact = comp_drop([x.bfloat16().float()])[0]
    torch.manual_seed(5)
    half = comp_drop([x.bfloat16()])[0]
    assert half.dtype == torch.bfloat16 and torch.equal(half.float(), exact)


def test_the_seed_decides() -> None:
    draws = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        draws.append(complementary_mask(4, 32))
    assert torch.equal(draws[0], draws[1]) and not torch.equal(draws[0], draws[2])


def test_dropped_channels_get_no_gradient_and_doubled_ones_twice() -> None:
    x = torch.ones(4, 10, 2, 2, requires_grad=True)
    dropped = comp_drop([x])[0]
    dropped.sum().backward()
    assert torch.equal(x.grad, dropped.detach())  # the input is one everywhere
