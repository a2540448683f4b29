from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from semiseg.ops.focal import sigmoid_focal


def loop(logits: Tensor, labels: Tensor, alpha: float, gamma: float) -> float:
    total, (b, c, h, w) = 0.0, logits.shape
    for i in range(b):
        for k in range(c):
            for y in range(h):
                for x in range(w):
                    p = 1 / (1 + math.exp(-float(logits[i, k, y, x])))
                    if int(labels[i, y, x]) == k:
                        total += -alpha * (1 - p) ** gamma * math.log(p)
                    else:
                        total += -(1 - alpha) * p**gamma * math.log(1 - p)
    return total / (b * c * h * w)


@pytest.mark.parametrize("alpha, gamma", [(0.5, 0.5), (0.25, 2.0), (0.5, 0.0)])
@pytest.mark.parametrize("n_classes", [2, 5])
def test_value_against_a_loop(n_classes: int, alpha: float, gamma: float) -> None:
    logits, labels = 3 * torch.randn(2, n_classes, 4, 5), torch.randint(0, n_classes, (2, 4, 5))
    got = sigmoid_focal(logits, labels, alpha=alpha, gamma=gamma)
    assert got.item() == pytest.approx(loop(logits, labels, alpha, gamma), rel=1e-5)


def test_gradient_against_differences() -> None:
    logits, labels = torch.randn(1, 3, 2, 2, requires_grad=True), torch.randint(0, 3, (1, 2, 2))
    (grad,) = torch.autograd.grad(sigmoid_focal(logits, labels), logits)
    for i in range(12):
        step = torch.zeros(12, dtype=torch.float64)
        step[i] = 1e-5
        above, below = (loop(logits.detach().double() + s * step.view(1, 3, 2, 2), labels, 0.5, 0.5) for s in (1, -1))
        assert grad.flatten()[i].item() == pytest.approx((above - below) / 2e-5, rel=1e-4, abs=1e-7)


@pytest.mark.parametrize("n_classes", [2, 7, 21])
def test_zero_logits_cost_the_same_for_any_number_of_classes(n_classes: int) -> None:
    loss = 10 * sigmoid_focal(torch.zeros(2, n_classes, 3, 3), torch.randint(0, n_classes, (2, 3, 3)))
    assert loss.item() == pytest.approx(2.4506, abs=1e-4)
    assert loss.item() == pytest.approx(10 * 0.5 * 0.5**0.5 * math.log(2), rel=1e-6)


def test_one_element() -> None:
    one = torch.ones(1, 1, 1, 1)
    assert sigmoid_focal(one, torch.zeros(1, 1, 1, dtype=torch.long)).item() == pytest.approx(0.08123, abs=1e-5)
    assert sigmoid_focal(one, torch.ones(1, 1, 1, dtype=torch.long)).item() == pytest.approx(0.56143, abs=1e-5)


@pytest.mark.parametrize("logit", [-60.0, 60.0, -300.0, 300.0])
@pytest.mark.parametrize("label", [0, 1])
def test_large_logits_are_finite(logit: float, label: int) -> None:
    z = torch.full((1, 1, 1, 1), logit, requires_grad=True)
    loss = sigmoid_focal(z, torch.full((1, 1, 1), label))
    loss.backward()
    wrong = (logit > 0) != (label == 0)
    assert loss.item() == pytest.approx(abs(logit) / 2 if wrong else 0.0, abs=1e-6)
    assert abs(z.grad.item()) == pytest.approx(0.5 if wrong else 0.0, abs=1e-6)


def test_half_precision_is_computed_in_float32() -> None:
    logits, labels = torch.randn(1, 4, 3, 3).bfloat16(), torch.randint(0, 4, (1, 3, 3))
    got = sigmoid_focal(logits, labels)
    assert got.dtype == torch.float32 and got.item() == pytest.approx(loop(logits.float(), labels, 0.5, 0.5), rel=1e-5)
