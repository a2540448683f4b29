"""Adaptive CutMix against loops over pixels."""

from __future__ import annotations

import math

import pytest
import torch

from semiseg.ops import adaptive_cutmix as module
from semiseg.ops.adaptive_cutmix import adaptive_cutmix, beta, certainty, known_labels, patch_mask
from semiseg.ops.pseudo import PseudoLabels

N, H, W = 3, 16, 24


def pseudo() -> PseudoLabels:
    padded = torch.zeros(N, H, W, dtype=torch.bool)
    padded[0, -2:] = True
    return PseudoLabels(torch.randint(0, 4, (N, H, W)), torch.rand(N, H, W) * 0.9, padded)


def labels(n: int = 2) -> torch.Tensor:
    found = torch.randint(0, 4, (n, H, W))
    found[:, :, :5] = 255
    return found


def test_certainty_of_one_hot_uniform_and_mixed_predictions() -> None:
    padded = torch.zeros(3, 2, 2, dtype=torch.bool)
    prob = torch.zeros(3, 4, 2, 2)
    prob[0, 2] = 1.0
    prob[1] = 0.25
    prob[2, :, 0], prob[2, :, 1] = prob[0, :, 0], prob[1, :, 0]
    assert certainty(prob, padded).tolist() == pytest.approx([1.0, 0.0, 0.5], abs=1e-6)
    padded[2, 1] = True  # the unsure half does not count
    assert certainty(prob, padded)[2].item() == pytest.approx(1.0)


def test_certainty_against_a_loop() -> None:
    prob, padded = torch.randn(N, 5, H, W).softmax(1), pseudo().padded
    for i, value in enumerate(certainty(prob, padded).tolist()):
        sure = []
        for y in range(H):
            for x in range(W):
                p = prob[i, :, y, x].tolist()
                if not padded[i, y, x]:
                    sure.append(max(p) * (1 + sum(q * math.log(q) for q in p) / math.log(5)))
        assert value == pytest.approx(sum(sure) / len(sure), rel=1e-4)


def test_certainty_of_padding_alone_is_nothing() -> None:
    assert certainty(torch.rand(1, 3, 2, 2), torch.ones(1, 2, 2, dtype=torch.bool)).item() == 0.0


@pytest.mark.parametrize(("a", "b"), [(8, 2), (4, 4)])
def test_beta_has_the_moments_of_its_law(a: int, b: int) -> None:
    torch.manual_seed(0)
    values = torch.stack([beta(a, b, torch.device("cpu")) for _ in range(4000)])
    assert values.mean().item() == pytest.approx(a / (a + b), abs=0.01)
    assert values.var().item() == pytest.approx(a * b / (a + b) ** 2 / (a + b + 1), rel=0.1)


def test_patches_have_their_size_and_their_centers() -> None:
    torch.manual_seed(0)
    masks = patch_mask(2000, 80, 160, torch.tensor(0.75))  # half of each side
    rows, columns = masks.any(2), masks.any(1)
    assert rows.sum(1).max() == 40 and columns.sum(1).max() == 80
    assert (masks.flatten(1).sum(1) == rows.sum(1) * columns.sum(1)).all()  # one box
    # A center in the upper eighth does not occur, one in the lower does: 10 - 20 .. 10 + 20 is the first box.
    first = rows[:, 0].nonzero().flatten()
    assert rows[first].sum(1).min() == 30 and rows[rows[:, -1]].sum(1).min() == 21


def test_a_patch_of_no_size_is_none() -> None:
    assert not patch_mask(5, H, W, torch.tensor(1.0)).any()


def mixed(sure: torch.Tensor, order: torch.Tensor, masks, monkeypatch):
    given = iter(masks)
    monkeypatch.setattr(module, "patch_mask", lambda *args: next(given))
    images, own, labeled, truth = torch.randn(N, 3, H, W), pseudo(), torch.randn(2, 3, H, W), labels()
    return images, own, labeled, truth, adaptive_cutmix(images, own, labeled, truth, sure, order)


def test_mixing_against_a_loop(monkeypatch) -> None:
    masks = [torch.rand(N, H, W) < 0.5 for _ in range(2)]
    order = torch.tensor([2, 0, 1])
    sure = torch.tensor([0.0, 1.0, 0.0])  # image 1 gets nothing of a labeled one
    images, own, labeled, truth, (out, target) = mixed(sure, order, masks, monkeypatch)
    for i in range(N):
        for y in range(H):
            for x in range(W):
                source = order[i].item() if masks[1][i, y, x] else i
                if source != i and sure[source] == 0 and masks[0][source, y, x]:
                    giver = order[source].item() % 2
                    pixel, label = labeled[giver, :, y, x], truth[giver, y, x].item()
                    expected = (0 if label == 255 else label, 1.0, label == 255)
                else:
                    pixel = images[source, :, y, x]
                    expected = (own.labels[source, y, x], own.confidence[source, y, x], own.padded[source, y, x])
                assert torch.equal(out[i, :, y, x], pixel)
                assert (target.labels[i, y, x], target.confidence[i, y, x], target.padded[i, y, x]) == expected


def test_sure_images_get_no_labeled_patch() -> None:
    images, labeled = torch.zeros(N, 3, H, W), torch.ones(2, 3, H, W)
    for seed in range(20):
        torch.manual_seed(seed)
        order = torch.randperm(N)
        assert adaptive_cutmix(images, pseudo(), labeled, labels(), torch.ones(N), order)[0].sum() == 0
    assert adaptive_cutmix(images, pseudo(), labeled, labels(), torch.zeros(N), order)[0].sum() > 0


def test_labeled_patches_come_as_often_as_the_teacher_is_unsure() -> None:
    torch.manual_seed(0)
    n, hits = 4, torch.zeros(4)
    images, labeled = torch.zeros(n, 3, 16, 16), torch.ones(n, 3, 16, 16)
    own = PseudoLabels(*(torch.zeros(n, 16, 16, dtype=t) for t in (torch.long, torch.float32, torch.bool)))
    whole = torch.ones(n, 16, 16, dtype=torch.bool)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "patch_mask", lambda *args: whole)
        for _ in range(2000):
            sure = torch.tensor([0.0, 0.25, 0.5, 1.0])
            out, _ = adaptive_cutmix(images, own, labeled, labels(4)[..., :16], sure, torch.arange(n))
            hits += out[:, 0, 0, 0]
    assert (hits / 2000).tolist() == pytest.approx([1.0, 0.75, 0.5, 0.0], abs=0.04)


def test_without_labeled_patches_the_own_patch_changes_nothing() -> None:
    images, own = torch.randn(N, 3, H, W), pseudo()
    out, target = adaptive_cutmix(images, own, torch.randn(2, 3, H, W), labels(), torch.ones(N), torch.arange(N))
    assert torch.equal(out, images)
    assert all(torch.equal(getattr(target, k), getattr(own, k)) for k in ("labels", "confidence", "padded"))


def test_known_labels_pass_any_threshold_but_where_they_are_ignored() -> None:
    truth = labels()
    assert torch.equal(known_labels(truth).keep(1.0), truth != 255)
    assert known_labels(truth).labels.max() < 4
