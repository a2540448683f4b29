"""Weights of classes in the supervised losses, against loops over pixels."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from semiseg.errors import InputError
from semiseg.ops.class_weights import median_frequency
from semiseg.ops.dice import CrossEntropyDice, dice_loss
from semiseg.ops.focal import Focal
from semiseg.ops.losses import OHEM, CrossEntropy

WEIGHTS = [0.5, 1.0, 4.0]
LOSSES = [CrossEntropy, Focal, CrossEntropyDice, lambda **kw: OHEM(min_kept=10, **kw)]


def some(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    rng = torch.Generator().manual_seed(seed)
    logits = torch.randn(2, 3, 6, 5, generator=rng, requires_grad=True)
    labels = torch.randint(0, 3, (2, 6, 5), generator=rng)
    labels[:, 0] = 255
    return logits, labels


def by_loop(logits: torch.Tensor, labels: torch.Tensor, of_pixel) -> float:
    total = weights = 0.0
    for z, y in zip(logits.detach().movedim(1, -1).reshape(-1, 3), labels.flatten()):
        if y != 255:
            total += WEIGHTS[int(y)] * of_pixel(z, int(y))
            weights += WEIGHTS[int(y)]
    return total / weights


def test_cross_entropy_focal_and_dice_against_a_loop() -> None:
    logits, labels = some()

    def entropy(z: torch.Tensor, y: int) -> float:
        return -float(z.log_softmax(0)[y])

    expected = by_loop(logits, labels, entropy)
    assert CrossEntropy(class_weights=WEIGHTS)(logits, labels).item() == pytest.approx(expected, rel=1e-5)
    torchs = F.cross_entropy(logits, labels, ignore_index=255, weight=torch.tensor(WEIGHTS))
    assert torchs.item() == pytest.approx(expected, rel=1e-5)
    with_dice = CrossEntropyDice(dice_weight=2, class_weights=WEIGHTS)(logits, labels)
    assert with_dice.item() == pytest.approx(expected + 2 * dice_loss(logits, labels).item(), rel=1e-5)
    focal = by_loop(logits, labels, lambda z, y: (1 - float(z.softmax(0)[y])) ** 2 * entropy(z, y))
    assert Focal(class_weights=WEIGHTS)(logits, labels).item() == pytest.approx(focal, rel=1e-4)


def test_ohem_keeps_what_it_kept() -> None:
    logits, labels = some()
    entropy = F.cross_entropy(logits, labels, ignore_index=255, reduction="none").detach()
    valid = labels != 255
    hard = valid & (
        (-entropy).exp() <= max(0.7, float((-entropy).exp().where(valid, 1.0).flatten().kthvalue(10).values))
    )
    weight = torch.tensor(WEIGHTS)[labels.where(valid, 0)] * hard
    found = OHEM(threshold=0.7, min_kept=10, class_weights=WEIGHTS)(logits, labels)
    assert found.item() == pytest.approx(float((weight * entropy).sum() / weight.sum()), rel=1e-5)


@pytest.mark.parametrize("loss", LOSSES)
def test_equal_weights_are_none_and_all_ignored_is_zero(loss) -> None:
    logits, labels = some()
    assert loss(class_weights=[3.0] * 3)(logits, labels).item() == pytest.approx(
        loss()(logits, labels).item(), rel=1e-5
    )
    nothing = loss(class_weights=WEIGHTS)(logits, torch.full_like(labels, 255))
    nothing.backward()
    assert nothing.item() == 0 and logits.grad is not None and not logits.grad.any()


def test_rare_classes_pull_more() -> None:
    logits, labels = some()
    grads = []
    for weights in ([1.0] * 3, WEIGHTS):
        loss = CrossEntropy(class_weights=weights)(logits, labels)
        grads.append(torch.autograd.grad(loss, logits)[0].movedim(1, -1)[labels == 2].abs().sum())
    assert grads[1] > grads[0]


def test_median_frequency_by_hand() -> None:
    pixels = torch.tensor([[90, 10, 0, 0], [50, 0, 50, 0], [100, 0, 0, 0]])
    # Shares of the images that show them: 240/300, 10/100, 50/100; their median is 0.5.
    assert median_frequency(pixels).tolist() == pytest.approx([0.5 / 0.8, 5.0, 1.0, 1.0])
    assert median_frequency(torch.zeros(2, 3)).tolist() == [1, 1, 1]
    assert median_frequency(torch.tensor([[7, 7]])).tolist() == [1, 1]


def test_what_is_refused() -> None:
    logits, labels = some()
    with pytest.raises(InputError, match="class_weights=balanced depends on the data"):
        CrossEntropy(class_weights="balanced")(logits, labels)
    for wrong in ([1.0, 0.0], [1.0, float("nan")], [], "rare", [1.0, -1.0]):
        with pytest.raises(InputError, match="class_weights"):
            Focal(class_weights=wrong)
