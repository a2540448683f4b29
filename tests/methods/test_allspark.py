from __future__ import annotations

import copy
import dataclasses
from functools import partial

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from semiseg.data.batch import SemiBatch, ViewSpec
from semiseg.methods.allspark import AllSpark
from semiseg.methods.base import Parts
from semiseg.models import deeplabv3plus, segformer, tiny
from semiseg.ops.losses import OHEM
from semiseg.training.optim import SGDPoly
from support.helpers import CLASSES, SIZE, make_batch, make_parts


def make_method(**options) -> AllSpark:
    """In train mode, half-way through the run; without dropout unless asked for."""
    method = AllSpark(make_parts(), **{"dropout": 0.0, **options}).train()
    method.steps_done, method.max_steps = 50, 100
    return method


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Pixel by pixel."""
    losses = []
    for image, label in zip(logits.log_softmax(1), labels.tolist()):
        for y, row in enumerate(label):
            losses += [-image[k, y, x] for x, k in enumerate(row) if k != 255]
    return torch.stack(losses).mean()


def literal_step(method: AllSpark, batch: SemiBatch) -> dict[str, Tensor]:
    """Section 2 of the spec, pass by pass, on a copy."""
    student, u = copy.deepcopy(method.student), batch.unlabeled
    student.eval()
    with torch.no_grad():
        *fine, deepest = student.features(u.weak)
        scores = student.classify(student.decoder([*fine, student.bridge(deepest, joint=True)]), SIZE)
    student.train()
    *fine, deepest = student.features(torch.cat([batch.labeled, u.weak]))
    deepest = student.bridge(deepest, len(batch.labeled), scores, read_memory=method.progress >= 0.0625)
    logits = student.classify(student.decoder([*fine, deepest]), SIZE)
    loss_sup = cross_entropy(logits[: len(batch.labeled)], batch.labels)
    loss_unsup = cross_entropy(logits[len(batch.labeled) :], scores.argmax(1))
    loss = 0.5 * (loss_sup + loss_unsup)
    loss.backward()
    return {"loss": loss, "loss_sup": loss_sup, "loss_unsup": loss_unsup} | {
        name: p.grad for name, p in student.named_parameters()
    }


@pytest.mark.parametrize("n_labeled,n_unlabeled,done", [(2, 2, 50), (2, 2, 6), (1, 3, 50), (3, 1, 0)])
def test_the_loss_against_the_passes_one_by_one(n_labeled: int, n_unlabeled: int, done: int) -> None:
    method, batch = make_method(), make_batch(n_labeled, n_unlabeled)
    method.steps_done = done
    expected = literal_step(method, batch)
    out = method.step(batch)
    out.loss.backward()
    got = {"loss": out.loss, **out.terms} | {name: p.grad for name, p in method.student.named_parameters()}
    assert got.keys() == {*expected, "memory_filled"}
    for name, value in expected.items():
        torch.testing.assert_close(got[name], value, rtol=1e-4, atol=1e-5 * value.abs().max().item())
    for name in ("loss", "loss_sup", "loss_unsup"):
        assert got[name].item() == pytest.approx(expected[name].item(), rel=1e-5)


def test_pseudo_labels_come_from_eval_mode_and_leave_everything_as_it_is() -> None:
    method, u = make_method(dropout=0.5), make_batch().unlabeled
    before = {name: x.clone() for name, x in method.student.named_buffers()}
    (first, scores), (second, _) = method.pseudo_labels(u), method.pseudo_labels(u)
    assert torch.equal(first.labels, second.labels) and torch.equal(first.confidence, second.confidence)
    assert not scores.requires_grad and scores.shape[2:] == method.student.map_size(*SIZE)
    assert all(torch.equal(x, before[name]) for name, x in method.student.named_buffers())
    assert all(m.training for m in method.student.modules())


def test_modes_of_the_passes_and_one_update_of_statistics_and_memory(monkeypatch) -> None:
    method, batch = make_method(), make_batch(2, 3)
    seen = []
    features = method.student.features

    def watched(x: Tensor) -> list[Tensor]:
        modes = {m.training for m in method.student.modules()}
        seen.append((len(x), modes, torch.is_grad_enabled()))
        return features(x)

    monkeypatch.setattr(method.student, "features", watched)
    pushes = []
    monkeypatch.setattr(method.student.bridge.memory, "push", lambda c, k: pushes.append((c.shape, k.shape)))
    method.step(batch)
    assert seen == [(3, {False}, False), (5, {True}, True)]
    assert {int(m.num_batches_tracked) for m in method.student.modules() if isinstance(m, nn.BatchNorm2d)} == {1}
    assert pushes == [((3, 64, 6), (3, 64))]


def test_validation_leaves_the_memory_alone_and_scores_images_alone() -> None:
    method, images = make_method().eval(), torch.randn(3, 3, 50, 33)
    before = {name: x.clone() for name, x in method.student.named_buffers()}
    with torch.no_grad():
        together = method.student(images)
        torch.testing.assert_close(together, torch.cat([method.student(x[None]) for x in images]), rtol=1e-4, atol=1e-5)
    assert all(torch.equal(x, before[name]) for name, x in method.student.named_buffers())
    assert list(method.evaluated()) == ["student"] and not method.teacher_pairs()


def test_images_are_labeled_jointly_unless_told_otherwise() -> None:
    joint, u = make_method(), make_batch().unlabeled
    apart = make_method(pseudo_label_per_image=True)
    apart.load_state_dict(joint.state_dict())
    alone = [dataclasses.replace(u, weak=u.weak[i : i + 1], padded=u.padded[i : i + 1]) for i in range(2)]
    one_by_one = torch.cat([joint.pseudo_labels(x)[0].confidence for x in alone])
    torch.testing.assert_close(apart.pseudo_labels(u)[0].confidence, one_by_one, rtol=1e-5, atol=1e-5)
    assert not torch.allclose(joint.pseudo_labels(u)[0].confidence, one_by_one, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    "options,first",
    [({}, 7), ({"memory_warmup": 0.5}, 50), ({"memory_at_eval": True}, 7), ({"use_memory": False}, None)],
)
def test_the_memory_is_read_in_training_after_the_warm_up_only(options: dict, first: int | None, monkeypatch) -> None:
    method, batch = make_method(**options), make_batch()
    reads = []
    queues = method.student.bridge.queues
    monkeypatch.setattr(method.student.bridge, "queues", lambda size: reads.append(size) or queues(size))
    for done in (0, 6, 7, 49, 50, 99):
        reads.clear()
        method.steps_done = done
        method.step(batch)
        assert len(reads) == int(first is not None and done >= first)


def test_the_memory_fills_from_the_first_step_on() -> None:
    method, batch = make_method(), make_batch()
    method.steps_done = 0
    filled = [method.step(batch).terms["memory_filled"].item() for _ in range(3)]
    assert 0 < filled[0] < 1 and filled == sorted(filled)


def test_every_pixel_counts_the_padded_ones_too() -> None:
    method, batch = make_method(), make_batch()
    out = copy.deepcopy(method).step(batch)
    assert torch.equal(out.keep, ~batch.unlabeled.padded)  # for the diagnostics
    batch.unlabeled.padded[:] = True
    assert torch.equal(method.step(batch).loss, out.loss)


@pytest.mark.parametrize("scores", ["logits", "softmax"])
def test_scores_that_group_channels(scores: str) -> None:
    method, u = make_method(scores=scores), make_batch().unlabeled
    student = copy.deepcopy(method.student).eval()
    with torch.no_grad():
        *fine, deepest = student.features(u.weak)
        full = student.classify(student.decoder([*fine, student.bridge(deepest, joint=True)]), SIZE)
    full = full.softmax(1) if scores == "softmax" else full
    expected = F.interpolate(full, deepest.shape[2:], mode="bilinear", align_corners=False)
    torch.testing.assert_close(method.pseudo_labels(u)[1], expected, rtol=1e-5, atol=1e-5)


def test_which_images_get_colors() -> None:
    views = {on: make_method(strong_on=on).view_spec for on in ("labeled", "unlabeled", "none")}
    assert views == {
        "labeled": ViewSpec(strong=0, labeled_strong=True),
        "unlabeled": ViewSpec(strong=1, labeled_strong=False),
        "none": ViewSpec(strong=0, labeled_strong=False),
    }
    for on in views:
        method, batch = make_method(strong_on=on), make_batch()
        before = copy.deepcopy(method).step(batch).terms
        batch.unlabeled.strong += 1.0
        moved = not torch.equal(method.step(batch).terms["loss_unsup"], before["loss_unsup"])
        assert moved == (on == "unlabeled")


def test_nothing_labeled_still_gives_every_parameter_a_gradient() -> None:
    for done in (0, 50):
        method, batch = make_method(), make_batch(1, 1)
        method.steps_done = done
        batch.labels.fill_(255)
        out = method.step(batch)
        out.loss.backward()
        assert out.terms["loss_sup"].item() == 0.0 and out.loss.isfinite()
        assert all(p.grad is not None and p.grad.isfinite().all() for p in method.student.parameters())


@pytest.mark.parametrize("done,weight", [(0, 0.0), (10, 0.5), (20, 1.0), (90, 1.0)])
def test_the_weight_of_the_unlabeled_term_rises_if_asked_for(done: int, weight: float) -> None:
    method, batch = make_method(unsup_warmup=0.2), make_batch()
    method.steps_done = done
    out = method.step(batch)
    expected = (out.terms["loss_sup"] + weight * out.terms["loss_unsup"]) / 2
    assert out.loss.item() == pytest.approx(expected.item(), rel=1e-6)


def test_two_classes_are_enough() -> None:
    parts = Parts(network=lambda: tiny(2, width=8), classes=("no", "yes"), crop_size=SIZE)
    method, batch = AllSpark(parts).train(), make_batch()
    batch.labels = batch.labels.where(batch.labels == 255, batch.labels % 2)
    for _ in range(3):
        assert method.step(batch).loss.isfinite()


def test_ohem_as_on_cityscapes() -> None:
    plain, batch = make_method(), make_batch()
    mined = copy.deepcopy(plain)
    mined.sup_loss = OHEM(threshold=0.7, min_kept=10**6)
    assert torch.allclose(mined.step(batch).terms["loss_sup"], copy.deepcopy(plain).step(batch).terms["loss_sup"])
    for min_kept in (0, 5, 300):
        logits = (9 * torch.randn(2, 4, *SIZE)).requires_grad_()
        OHEM(threshold=0.0, min_kept=min_kept)(logits, batch.labels).backward()
        kept = (logits.grad != 0).any(1).sum()
        assert kept >= min(min_kept, (batch.labels != 255).sum())


def test_bfloat16_autocast_agrees_with_float32() -> None:
    method, batch = make_method(), make_batch()
    exact = copy.deepcopy(method).step(batch).terms
    with torch.autocast("cpu", torch.bfloat16):
        out = method.step(batch)
    out.loss.backward()
    for name in ("loss_sup", "loss_unsup"):
        assert out.terms[name].item() == pytest.approx(exact[name].item(), rel=0.05)
    assert all(p.grad.isfinite().all() for p in method.student.parameters())


@pytest.mark.parametrize(
    "network",
    [partial(deeplabv3plus, "resnet18", 4, width=16, low_level_width=8), partial(segformer, "mit_b0", 4, width=16)],
    ids=["deeplab", "segformer"],
)
def test_other_networks_and_crops_that_are_not_square(network) -> None:
    method = AllSpark(Parts(network=network, classes=CLASSES, crop_size=SIZE)).train()
    method.steps_done, method.max_steps = 50, 100
    method.step(make_batch()).loss.backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in method.student.parameters())


def test_without_the_block_it_is_plain_self_training() -> None:
    method, batch = make_method(use_bridge=False), make_batch()
    assert not hasattr(method.student, "bridge") and not any("memory" in n for n, _ in method.named_buffers())
    out = method.step(batch)
    assert out.terms.keys() == {"loss_sup", "loss_unsup"} and out.loss.isfinite()


def test_the_block_has_the_rate_of_the_head() -> None:
    method = make_method()
    groups = SGDPoly(max_steps=1, lr=0.1)(method.trained())["optimizer"].param_groups
    heads = {id(p) for group in groups if group["name"] == "head" for p in group["params"]}
    assert all(id(p) in heads for p in method.student.bridge.parameters())


def test_a_checkpoint_of_another_crop_loads() -> None:
    method = make_method()
    larger = AllSpark(dataclasses.replace(make_parts(), crop_size=(64, 80)), dropout=0.0).eval()
    larger.load_state_dict(method.state_dict())
    x = torch.randn(1, 3, 97, 131)
    with torch.no_grad():
        assert torch.equal(larger.student(x), method.eval().student(x))


@pytest.mark.parametrize(
    "key,value",
    [
        ("memory_warmup", 1.5),
        ("strong_on", "both"),
        ("scores", "probabilities"),
        ("heads", 0),
        ("dropout", 1.0),
        ("grouping", "label"),
        ("memory_sync", "rank1"),
    ],
)
def test_values_that_are_not_allowed_are_named(key: str, value: object) -> None:
    with pytest.raises(ValueError, match=rf"^{key}={value}: .*allowed"):
        make_method(**{key: value})


def test_combinations_that_make_no_sense_are_named() -> None:
    for option in ("use_memory", "use_bridge"):
        with pytest.raises(ValueError, match=r"method\.memory_at_eval=true: there is no memory"):
            make_method(memory_at_eval=True, **{option: False})
    with pytest.raises(ValueError, match="crop_size"):
        AllSpark(dataclasses.replace(make_parts(), crop_size=(0, 0)))
