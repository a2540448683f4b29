"""The floor of the poly schedule."""

from __future__ import annotations

import pytest
from torch import nn

from semiseg.ops.schedules import poly
from semiseg.training.optim import SGDPoly


def network() -> nn.ModuleDict:
    return nn.ModuleDict({"encoder": nn.Linear(2, 2), "head": nn.Linear(2, 2)})


def rates(steps: int, **kwargs: float) -> list[list[float]]:
    """Learning rates of every group, before each step and at the end."""
    made = SGDPoly(max_steps=steps, lr=0.01, **kwargs)([network()])
    optimizer, scheduler = made["optimizer"], made["lr_scheduler"]["scheduler"]
    seen = [[group["lr"] for group in optimizer.param_groups]]
    for _ in range(steps):
        optimizer.step()
        scheduler.step()
        seen.append([group["lr"] for group in optimizer.param_groups])
    return seen


def test_guidedmix_rate_ends_at_its_floor() -> None:
    seen = [encoder for encoder, _ in rates(20, min_lr=1e-4)]
    assert seen[0] == pytest.approx(0.01) and seen[20] == pytest.approx(1e-4)
    assert seen[10] == pytest.approx(0.0099 * 0.5**0.9 + 1e-4) and seen[10] == pytest.approx(0.005405, abs=1e-6)
    assert seen == pytest.approx([(0.01 - 1e-4) * (1 - t / 20) ** 0.9 + 1e-4 for t in range(21)])


def test_every_group_ends_at_the_same_rate() -> None:
    seen = rates(5, min_lr=1e-4, head_factor=10.0)
    assert seen[0] == pytest.approx([0.01, 0.1]) and seen[5] == pytest.approx([1e-4, 1e-4])


def test_no_floor_is_plain_poly() -> None:
    assert [poly(t, 7, floor=0.0) for t in range(8)] == [(1 - t / 7) ** 0.9 for t in range(8)]
    assert rates(4, head_factor=0.0)[2] == pytest.approx([0.01 * 0.5**0.9, 0.0])


@pytest.mark.parametrize("min_lr", [-0.1, 0.02])
def test_a_floor_above_the_rate_is_refused(min_lr: float) -> None:
    with pytest.raises(ValueError, match="min_lr="):
        SGDPoly(max_steps=5, lr=0.01, min_lr=min_lr)
