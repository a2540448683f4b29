"""Losses for rare classes against loops over pixels."""

from __future__ import annotations

import math

import pytest
import torch

from semiseg.ops.dice import CrossEntropyDice, dice_loss
from semiseg.ops.focal import Focal
from semiseg.ops.losses import IGNORE, cross_entropy


@pytest.fixture
def batch() -> tuple[torch.Tensor, torch.Tensor]:
    """Logits of four classes; labels show three of them, and ignored pixels."""
    random = torch.Generator().manual_seed(0)
    labels = torch.randint(0, 3, (2, 5, 6), generator=random)
    labels[0, :2] = IGNORE
    return torch.randn(2, 4, 5, 6, generator=random), labels


def pixels(logits: torch.Tensor, labels: torch.Tensor) -> list[tuple[list[float], int]]:
    flat = logits.softmax(1).movedim(1, -1).reshape(-1, logits.shape[1]).tolist()
    return [(p, y) for p, y in zip(flat, labels.flatten().tolist()) if y != IGNORE]


def test_dice_against_a_loop(batch) -> None:
    found = pixels(*batch)
    losses = []
    for c in range(3):  # the fourth is in no label
        both = sum(p[c] for p, y in found if y == c)
        losses.append(1 - 2 * both / (sum(p[c] for p, _ in found) + sum(y == c for _, y in found)))
    assert dice_loss(*batch).item() == pytest.approx(sum(losses) / 3, rel=1e-5)
    both = CrossEntropyDice(0.5)(*batch)
    assert both.item() == pytest.approx((cross_entropy(*batch) + 0.5 * dice_loss(*batch)).item())


@pytest.mark.parametrize("gamma", [0.0, 1.0, 2.0])
def test_focal_against_a_loop(batch, gamma: float) -> None:
    found = pixels(*batch)
    expected = sum(-((1 - p[y]) ** gamma) * math.log(p[y]) for p, y in found) / len(found)
    assert Focal(gamma)(*batch).item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("loss", [Focal(), Focal(0.5), CrossEntropyDice()])
@pytest.mark.parametrize("scale", [1.0, 1e4])
@pytest.mark.parametrize("nothing", [False, True])
def test_value_and_gradient_are_finite(batch, loss, scale: float, nothing: bool) -> None:
    logits, labels = (batch[0] * scale).requires_grad_(), batch[1]
    value = loss(logits, torch.full_like(labels, IGNORE) if nothing else labels)
    value.backward()
    assert value.isfinite() and logits.grad.isfinite().all()
    assert not nothing or value.item() == 0


@pytest.mark.parametrize("loss", [Focal(), CrossEntropyDice()])
def test_a_right_answer_costs_nothing(loss) -> None:
    labels = torch.tensor([[[0, 1], [1, 0]]])
    logits = 50.0 * torch.nn.functional.one_hot(labels, 2).movedim(-1, 1).float()
    assert loss(logits, labels).item() == pytest.approx(0, abs=1e-5)
