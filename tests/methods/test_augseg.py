"""Properties of AugSeg, on small random tensors."""

from __future__ import annotations

import copy

import pytest
import torch
from torch.nn import functional as F

from semiseg.methods import augseg
from semiseg.methods.augseg import AugSeg
from semiseg.methods.base import Parts
from semiseg.ops.adaptive_cutmix import certainty
from support.helpers import CLASSES, PixelModel, make_batch, make_parts


def pixel_augseg(scale: float = 3.0, **kwargs) -> AugSeg:
    torch.manual_seed(0)
    return AugSeg(Parts(network=lambda: PixelModel(scale=scale), classes=CLASSES), **kwargs)


@pytest.fixture
def unmixed(monkeypatch) -> None:
    monkeypatch.setattr(augseg, "adaptive_cutmix", lambda images, pseudo, *_: (images, pseudo))


def test_the_loss_divides_by_all_pixels(unmixed) -> None:
    method, batch = pixel_augseg(conf_threshold=0.6), make_batch(n_strong=1)
    u = batch.unlabeled
    prob = method.teacher(u.weak).softmax(1)
    logits, total = method.student(u.strong[0]), 0.0
    for i, (y, x) in ((i, divmod(k, 40)) for i in range(2) for k in range(32 * 40)):
        if not u.padded[i, y, x] and prob[i, :, y, x].max() >= 0.6:
            total += F.cross_entropy(logits[i, :, y, x], prob[i, :, y, x].argmax()).item()
    out = method.step(batch)
    assert 0 < out.keep.float().mean() < 1
    assert out.terms["loss_unsup"].item() == pytest.approx(total / u.padded.numel(), rel=1e-4)
    assert out.loss.item() == pytest.approx((out.terms["loss_sup"] + out.terms["loss_unsup"]).item())


def test_half_of_the_pixels_unsure_is_half_of_the_loss(unmixed) -> None:
    method, batch = pixel_augseg(conf_threshold=0.0), make_batch(n_strong=1)
    u = batch.unlabeled
    u.padded.zero_()
    u.weak[:, :, :, 20:] = u.weak[:, :, :, :20]
    u.strong[..., 20:] = u.strong[..., :20]
    whole = method.step(batch).terms["loss_unsup"]
    u.padded[:, :, 20:] = True  # what is not learned stays in the denominator
    assert method.step(batch).terms["loss_unsup"].item() == pytest.approx(whole.item() / 2, rel=1e-5)


def test_above_any_confidence_labeled_patches_are_what_is_left() -> None:
    method, batch = pixel_augseg(scale=0.01), make_batch(n_strong=1)  # near uniform: every image gets a patch
    torch.manual_seed(1)
    out = method.step(batch)
    assert not out.keep.any() and out.terms["loss_unsup"] > 0
    batch.labels.fill_(255)
    torch.manual_seed(1)
    assert method.step(batch).terms["loss_unsup"] == 0


def test_the_teacher_says_how_sure_it_is(monkeypatch) -> None:
    method, batch = pixel_augseg(), make_batch(n_strong=1)
    u = batch.unlabeled
    expected = certainty(method.teacher(u.weak).softmax(1), u.padded)
    seen = []
    monkeypatch.setattr(augseg, "adaptive_cutmix", lambda *args: seen.append(args) or args[:2])
    out = method.step(batch)
    images, pseudo, labeled, labels, sure, order = seen[0]
    assert torch.equal(images, u.strong[0]) and torch.equal(labeled, batch.labeled) and labels is batch.labels
    torch.testing.assert_close(sure, expected)
    assert sorted(order.tolist()) == [0, 1] and pseudo is out.pseudo
    assert out.terms["certainty"].item() == pytest.approx(expected.mean().item())


@pytest.mark.parametrize(("n_labeled", "n_unlabeled"), [(1, 3), (3, 1)])
def test_batches_of_different_sizes(n_labeled: int, n_unlabeled: int) -> None:
    method = pixel_augseg(scale=0.1, conf_threshold=0.0)
    assert method.step(make_batch(n_labeled, n_unlabeled, n_strong=1)).loss.isfinite()


def test_the_teacher_is_a_copy_for_an_epoch_and_then_an_average() -> None:
    parts = make_parts()
    parts.max_steps = 800
    decay = AugSeg(parts, copy=0.0125).ema.decay
    assert [decay(i) for i in (0, 9)] == [0.0, 0.0]
    assert decay(10) == pytest.approx(1 - 1 / 11) and decay(5000) == 0.999


def test_the_student_passes_once_and_the_teacher_stays_as_it_is() -> None:
    method = AugSeg(make_parts()).train()
    teacher = copy.deepcopy(method.teacher.state_dict())
    method.step(make_batch(n_strong=1)).loss.backward()
    assert all(torch.equal(v, teacher[k]) for k, v in method.teacher.state_dict().items())
    counts = {int(m.num_batches_tracked) for m in method.student.modules() if hasattr(m, "num_batches_tracked")}
    assert counts == {1}
    assert all(p.grad is not None for p in method.student.parameters())
