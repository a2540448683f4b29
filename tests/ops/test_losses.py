from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from semiseg.ops.losses import OHEM, cross_entropy, squared_consistency, unsupervised_cross_entropy


def pixel_losses(logits: Tensor, labels: Tensor) -> list[tuple[float, float, int]]:
    """(loss, probability of the true class, label) of every pixel, by a loop."""
    out = []
    for b in range(len(labels)):
        for y in range(labels.shape[1]):
            for x in range(labels.shape[2]):
                label = int(labels[b, y, x])
                if label == 255:
                    out.append((0.0, 1.0, 255))
                    continue
                exps = [math.exp(v) for v in logits[b, :, y, x].tolist()]
                prob = exps[label] / sum(exps)
                out.append((-math.log(prob), prob, label))
    return out


@pytest.fixture
def case() -> tuple[Tensor, Tensor]:
    labels = torch.randint(0, 5, (2, 6, 7))
    labels[0, :2] = 255
    return torch.randn(2, 5, 6, 7, requires_grad=True), labels


def test_cross_entropy_is_the_mean_over_valid_pixels(case) -> None:
    losses = [loss for loss, _, label in pixel_losses(*case) if label != 255]
    assert cross_entropy(*case).item() == pytest.approx(sum(losses) / len(losses), rel=1e-5)


def test_cross_entropy_of_nothing_is_zero_with_a_graph() -> None:
    logits = torch.randn(1, 3, 4, 4, requires_grad=True)
    for loss in (cross_entropy, OHEM(min_kept=4)):
        value = loss(logits, torch.full((1, 4, 4), 255))
        value.backward()
        assert value.item() == 0.0
        assert torch.equal(logits.grad, torch.zeros_like(logits))


@pytest.mark.parametrize("threshold,min_kept", [(0.2, 10), (0.2, 1), (0.9, 5), (0.05, 40)])
def test_ohem_against_a_loop(case, threshold: float, min_kept: int) -> None:
    pixels = pixel_losses(*case)
    limit = max(threshold, sorted(p for _, p, _ in pixels)[min_kept - 1])
    kept = [loss for loss, p, label in pixels if label != 255 and p <= limit]
    got = OHEM(threshold, min_kept)(*case)
    assert got.item() == pytest.approx(sum(kept) / len(kept), rel=1e-5)


def test_ohem_with_too_few_valid_pixels_is_cross_entropy(case) -> None:
    for min_kept in (69, 71, 84, 10_000):
        n_valid = int((case[1] != 255).sum())
        if min_kept > n_valid:
            assert OHEM(0.1, min_kept)(*case).item() == pytest.approx(cross_entropy(*case).item(), rel=1e-6)


def test_unsupervised_loss_against_a_loop() -> None:
    logits, labels = torch.randn(2, 3, 4, 5), torch.randint(0, 3, (2, 4, 5))
    keep, padded = torch.rand(2, 4, 5) > 0.5, torch.rand(2, 4, 5) > 0.7
    kept = zip(pixel_losses(logits, labels), keep.flatten(), padded.flatten())
    total = sum(loss for (loss, _, _), k, p in kept if k and not p)
    assert unsupervised_cross_entropy(logits, labels, keep, padded).item() == pytest.approx(
        total / int((~padded).sum()), rel=1e-5
    )
    all_pixels = unsupervised_cross_entropy(logits, labels, keep, padded, denominator="all")
    assert all_pixels.item() == pytest.approx(total / padded.numel(), rel=1e-5)


def test_unsupervised_denominator_counts_unconfident_but_not_padded_pixels() -> None:
    logits, labels = torch.randn(1, 3, 4, 4), torch.randint(0, 3, (1, 4, 4))
    keep, padded = torch.ones(1, 4, 4, dtype=torch.bool), torch.zeros(1, 4, 4, dtype=torch.bool)
    base = unsupervised_cross_entropy(logits, labels, keep, padded)
    twice = [torch.cat([x, x], dim=-1) for x in (logits, labels)]
    unconfident = torch.cat([keep, ~keep], dim=-1)
    more_padding = torch.cat([padded, ~padded], dim=-1)
    halved = unsupervised_cross_entropy(*twice, unconfident, torch.cat([padded, padded], dim=-1))
    same = unsupervised_cross_entropy(*twice, torch.cat([keep, keep], dim=-1), more_padding)
    assert halved.item() == pytest.approx(base.item() / 2, rel=1e-6)
    assert same.item() == pytest.approx(base.item(), rel=1e-6)


def test_unsupervised_loss_of_nothing_is_zero_with_a_graph() -> None:
    logits = torch.randn(1, 3, 4, 4, requires_grad=True)
    nothing, everything = torch.zeros(1, 4, 4, dtype=torch.bool), torch.ones(1, 4, 4, dtype=torch.bool)
    for keep, padded in ((nothing, nothing), (everything, everything)):
        loss = unsupervised_cross_entropy(logits, torch.zeros(1, 4, 4, dtype=torch.long), keep, padded)
        loss.backward()
        assert loss.item() == 0.0


def test_squared_consistency_against_a_loop() -> None:
    logits, target = torch.randn(2, 3, 2, 2), torch.randn(2, 3, 2, 2).softmax(1)
    weight = torch.tensor([1.0, 0.0]).view(2, 1, 1).expand(2, 2, 2)
    prob = logits.softmax(1)
    total = 0.0
    for y in range(2):
        for x in range(2):
            total += sum(float(prob[0, c, y, x] - target[0, c, y, x]) ** 2 for c in range(3))
    assert squared_consistency(logits, target, weight).item() == pytest.approx(total / 8, rel=1e-5)


def test_losses_survive_bfloat16_autocast(case) -> None:
    logits, labels = case
    with torch.autocast("cpu", dtype=torch.bfloat16):
        low = logits.bfloat16()
        keep = labels != 255
        values = [
            (cross_entropy(low, labels), cross_entropy(logits, labels)),
            (OHEM(0.3, 8)(low, labels), OHEM(0.3, 8)(logits, labels)),
            (
                unsupervised_cross_entropy(low, labels.clamp(max=4), keep, ~keep),
                unsupervised_cross_entropy(logits, labels.clamp(max=4), keep, ~keep),
            ),
        ]
    for got, want in values:
        assert got.item() == pytest.approx(want.item(), rel=0.05)
