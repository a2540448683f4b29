"""Region propagation against a loop over regions and pixels."""

from __future__ import annotations

import pytest
import torch

from semiseg.ops.propagation import class_maxima, mean_over_present, min_max, propagate
from semiseg.ops.pseudo import PseudoLabels

B, M, C, H, W = 2, 5, 4, 6, 7


def pseudo(labels: torch.Tensor | None = None) -> PseudoLabels:
    labels = torch.randint(0, C, (B, H, W)) if labels is None else labels
    return PseudoLabels(labels, torch.rand(labels.shape), torch.zeros(labels.shape, dtype=torch.bool))


def slow(labels, confident, regions, tau):
    out, valid = labels.clone(), confident.clone()
    for b in range(B):
        for m in range(M):
            region = regions[b, m]
            sure = region & confident[b]
            if not sure.any() or sure.sum() / region.sum() < tau:
                continue
            counts = labels[b][sure].bincount(minlength=C)
            if counts.max() / sure.sum() > tau:
                out[b][region], valid[b][region] = counts.argmax(), True
    return out, valid


@pytest.mark.parametrize("tau", [0.0, 0.3, 0.5])
@pytest.mark.parametrize("seed", range(5))
def test_against_a_loop(tau: float, seed: int) -> None:
    torch.manual_seed(seed)
    labels = torch.where(torch.rand(B, H, W) < 0.6, 1, torch.randint(0, C, (B, H, W)))
    confident, regions = torch.rand(B, H, W) < 0.7, torch.rand(B, M, H, W) < 0.3
    got = propagate(pseudo(labels), confident, regions, torch.tensor(tau), C)
    expected = slow(labels, confident, regions, tau)
    assert torch.equal(got[1], expected[1])
    assert torch.equal(got[0][got[1]], expected[0][expected[1]])
    assert not torch.equal(got[1], confident)  # something was filled


def test_nothing_outside_regions_changes() -> None:
    own, confident = pseudo(torch.ones(B, H, W, dtype=torch.long)), torch.rand(B, H, W) < 0.9
    regions = torch.rand(B, M, H, W) < 0.5
    regions[..., :3] = False
    labels, valid = propagate(own, confident, regions, torch.tensor(0.5), C)
    assert torch.equal(labels[..., :3], own.labels[..., :3]) and torch.equal(valid[..., :3], confident[..., :3])


def test_above_any_share_and_without_regions_nothing_happens() -> None:
    own, confident = pseudo(), torch.rand(B, H, W) < 0.5
    for regions, tau in ((torch.ones(B, M, H, W) > 0, 1.1), (torch.zeros(B, M, H, W) > 0, 0.0)):
        labels, valid = propagate(own, confident, regions, torch.tensor(tau), C)
        assert torch.equal(labels, own.labels) and torch.equal(valid, confident)


def test_the_last_region_that_passes_decides() -> None:
    labels = torch.zeros(1, 1, 4, dtype=torch.long)
    labels[..., 2:] = 3
    confident = torch.ones(1, 1, 4, dtype=torch.bool)
    regions = torch.tensor([[[[1, 1, 1, 0]], [[0, 1, 1, 1]], [[0, 1, 1, 0]]]]) > 0  # the third is undecided
    got, _ = propagate(pseudo(labels), confident, regions, torch.tensor(0.6), C)
    assert got.tolist() == [[[0, 3, 3, 3]]]


def test_maxima_of_present_classes_and_their_mean() -> None:
    own = PseudoLabels(
        torch.tensor([[[0, 0, 2, 3]]]),
        torch.tensor([[[0.5, 0.7, 0.9, 1.0]]]),
        torch.tensor([[[False, False, False, True]]]),
    )
    maxima = class_maxima(own, C)
    assert maxima.tolist() == pytest.approx([0.7, 0.0, 0.9, 0.0])
    assert mean_over_present(maxima, torch.tensor(0.1)).item() == pytest.approx(0.8)
    assert mean_over_present(torch.zeros(C), torch.tensor(0.1)).item() == pytest.approx(0.1)


def test_stretching_to_the_whole_range() -> None:
    maps = torch.tensor([[[1.0, 2.0, 3.0]], [[4.0, 4.0, 4.0]]])
    assert min_max(maps).tolist() == [[[0.0, 0.5, 1.0]], [[0.0, 0.0, 0.0]]]
