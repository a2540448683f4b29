"""Properties of CPS, on small random tensors."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from semiseg.data.batch import SemiBatch, ViewSpec
from semiseg.methods.base import Parts
from semiseg.methods.cps import CPS
from semiseg.methods.supervised import Supervised
from support.helpers import CLASSES, SIZE, PixelModel, make_batch, make_parts

MIXINGS = ["cutmix", "none"]


def pixel_cps(mixing: str = "cutmix", n_classes: int = len(CLASSES), **kwargs) -> CPS:
    names = [f"class{i}" for i in range(n_classes)]
    return CPS(Parts(network=lambda: PixelModel(n_classes, scale=3.0), classes=names), mixing=mixing, **kwargs)


def tiny_cps(mixing: str = "cutmix", **kwargs) -> CPS:
    return CPS(make_parts(), mixing=mixing, **kwargs).train()


def batch_of(n_labeled: int = 2, n_unlabeled: int = 2, *, box: bool = True) -> SemiBatch:
    """The strong view is a copy of the weak one, as the method asks for; image i has boxes of its own."""
    batch = make_batch(n_labeled, n_unlabeled, n_strong=1, box=box)
    u = batch.unlabeled
    u.strong = u.weak[None].clone()
    if box:
        u.boxes = torch.tensor([[1, 2, 12, 30], [5, 8, 25, 36], [9, 20, 30, 39]]).repeat(1, n_unlabeled, 1, 1)
        u.boxes[0, :, 1, 0] += torch.arange(n_unlabeled)
    return batch


def gradients(network: nn.Module) -> list[Tensor]:
    return [p.grad for p in network.parameters()]


def same_networks(method: CPS) -> CPS:
    method.student_b.load_state_dict(method.student.state_dict())
    return method


def inside(boxes: Tensor, y: int, x: int) -> bool:
    return sum(y0 <= y < y1 and x0 <= x < x1 for y0, x0, y1, x1 in boxes.tolist()) % 2 == 1


def oracle(method: CPS, batch: SemiBatch) -> tuple[Tensor, Tensor]:
    """loss_sup and loss_cps of networks that look at single pixels, pixel by pixel."""
    u, nets = batch.unlabeled, (method.student, method.student_b)
    loss_sup = torch.zeros(())
    for net in nets:
        logits = net(batch.labeled).movedim(1, -1)
        losses = [
            F.cross_entropy(logits[i], label) for i, label in enumerate_pixels(batch.labels) if label.item() != 255
        ]
        loss_sup = loss_sup + torch.stack(losses).mean()
    losses = []
    if method.mixing == "none":
        a, b = (net(torch.cat([batch.labeled, u.weak])).movedim(1, -1) for net in nets)
        for i, _ in enumerate_pixels(a[..., 0]):
            losses.append(F.cross_entropy(a[i], b[i].argmax()) + F.cross_entropy(b[i], a[i].argmax()))
    else:
        weak = [net(u.weak).movedim(1, -1) for net in nets]
        strong = [net(u.strong[0]).movedim(1, -1) for net in nets]
        for (i, y, x), _ in enumerate_pixels(u.padded):
            source = (i + 1) % len(u.weak) if inside(u.boxes[0, i], y, x) else i
            for taught, teaches in ((0, 1), (1, 0)):
                losses.append(F.cross_entropy(strong[taught][source, y, x], weak[teaches][source, y, x].argmax()))
    return loss_sup, torch.stack(losses).sum() / (len(losses) if method.mixing == "none" else len(losses) / 2)


def enumerate_pixels(maps: Tensor):
    n, h, w = maps.shape
    for i in range(n):
        for y in range(h):
            for x in range(w):
                yield (i, y, x), maps[i, y, x]


@pytest.mark.parametrize("mixing", MIXINGS)
def test_loss_and_gradients_against_a_loop(mixing: str) -> None:
    method, batch = pixel_cps(mixing, weight=1.5), batch_of(1, 3)
    for name in ("labeled", "labels"):
        setattr(batch, name, getattr(batch, name)[..., :8, :9])
    u = batch.unlabeled
    u.weak, u.strong, u.padded = u.weak[..., :12, :10], u.strong[..., :12, :10] + 0.1, u.padded[:, :12, :10]
    if mixing == "none":  # labeled and unlabeled images of one size
        batch.labeled, batch.labels = torch.randn(1, 3, 12, 10), torch.randint(0, 4, (1, 12, 10))
    out = method.step(batch)
    out.loss.backward()
    got = [g.clone() for net in method.trained() for g in gradients(net)]
    method.zero_grad()
    loss_sup, loss_cps = oracle(method, batch)
    (loss_sup + 1.5 * loss_cps).backward()
    assert out.terms["loss_sup"].item() == pytest.approx(loss_sup.item(), rel=1e-5)
    assert out.terms["loss_cps"].item() == pytest.approx(loss_cps.item(), rel=1e-5)
    assert out.loss.item() == pytest.approx((loss_sup + 1.5 * loss_cps).item(), rel=1e-5)
    for a, b in zip(got, [g for net in method.trained() for g in gradients(net)], strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("mixing", MIXINGS)
def test_the_loss_is_symmetric_in_the_networks(mixing: str) -> None:
    method, batch = tiny_cps(mixing), batch_of()
    before = method.step(batch).terms["loss_cps"]
    method.student, method.student_b = method.student_b, method.student
    assert method.step(batch).terms["loss_cps"].item() == pytest.approx(before.item(), rel=1e-6)


@pytest.mark.parametrize("mixing", MIXINGS)
def test_identical_networks_learn_their_own_labels(mixing: str) -> None:
    method, batch = same_networks(tiny_cps(mixing).eval()), batch_of(box=False)
    images = batch.unlabeled.weak if mixing == "cutmix" else torch.cat([batch.labeled, batch.unlabeled.weak])
    q = method.student(images)
    expected = 2 * F.cross_entropy(q, q.argmax(1))
    assert method.step(batch).terms["loss_cps"].item() == pytest.approx(expected.item(), rel=1e-6)


@pytest.mark.parametrize("mixing", MIXINGS)
def test_no_gradient_flows_through_the_labels(mixing: str) -> None:
    method, batch = tiny_cps(mixing), batch_of(box=False)
    method.step(batch).terms["loss_cps"].backward()
    got = [g.clone() for g in gradients(method.student_b)]
    method.zero_grad()
    u, parts = batch.unlabeled, []
    for images in [u.weak] if mixing == "cutmix" else [batch.labeled, u.weak]:
        parts.append((method.student(images).argmax(1), method.student_b(images)))
    labels, logits = (torch.cat(x) for x in zip(*parts))
    F.cross_entropy(logits, labels).backward()
    for a, b in zip(got, gradients(method.student_b), strict=True):
        torch.testing.assert_close(a, b)


def test_the_clean_images_only_give_labels(monkeypatch) -> None:
    method, batch = pixel_cps("cutmix"), batch_of()
    batch.unlabeled.weak.requires_grad_()
    batch.unlabeled.strong.requires_grad_()
    passes, both = [], method.both
    monkeypatch.setattr(method, "both", lambda images: passes.append(both(images)) or passes[-1])
    method.step(batch).loss.backward()
    assert [logits.requires_grad for logits, _ in passes] == [True, False, True]  # no memory for the clean pass
    assert batch.unlabeled.weak.grad is None and batch.unlabeled.strong.grad.any()


def test_without_a_box_cutmix_is_the_plain_loss_on_unlabeled_images() -> None:
    mixed, batch = tiny_cps("cutmix"), batch_of(box=False)
    plain = tiny_cps("none")
    plain.load_state_dict(mixed.state_dict())
    got = mixed.step(batch).terms["loss_cps"]
    batch.labeled = batch.unlabeled.weak  # then both halves of the plain loss are that of the unlabeled images
    assert got.item() == pytest.approx(plain.step(batch).terms["loss_cps"].item(), rel=1e-6)


def test_hard_labels_mix_like_logits() -> None:
    logits, box = torch.randn(3, 4, *SIZE), torch.rand(3, *SIZE) < 0.3
    labels = logits.argmax(1)
    mixed = torch.where(box, labels[[1, 2, 0]], labels)
    assert torch.equal(torch.where(box[:, None], logits[[1, 2, 0]], logits).argmax(1), mixed)


@pytest.mark.parametrize("mixing", MIXINGS)
def test_pseudo_labels_cover_every_pixel_and_know_nothing_of_ignored_ones(mixing: str) -> None:
    method, batch = pixel_cps(mixing), batch_of()
    out = method.step(batch)
    assert out.pseudo.labels.max() < len(CLASSES)
    assert torch.equal(out.pseudo.labels, method.student_b(batch.unlabeled.weak).argmax(1))
    batch.labels.fill_(255)
    batch.unlabeled.padded[:] = True
    assert torch.equal(method.step(batch).terms["loss_cps"], out.terms["loss_cps"])


@pytest.mark.parametrize("mixing", MIXINGS)
def test_weight_0_trains_two_supervised_networks_to_the_bit(mixing: str) -> None:
    method = tiny_cps(mixing, weight=0.0)
    alone = [Supervised(make_parts()).train() for _ in range(2)]
    for net, other in zip(method.trained(), alone):
        other.student.load_state_dict(net.state_dict())
    optimizers = [torch.optim.SGD([p for p in m.parameters()], lr=0.1, momentum=0.9) for m in (method, *alone)]
    for seed in range(3):
        torch.manual_seed(seed)
        batch = batch_of()
        for m, optimizer in zip((method, *alone), optimizers):
            optimizer.zero_grad()
            m.step(batch).loss.backward()
            optimizer.step()
    for net, other in zip(method.trained(), alone):
        assert all(torch.equal(p, q) for p, q in zip(net.parameters(), other.student.parameters(), strict=True))


def test_a_box_with_itself_is_no_box() -> None:
    method, batch = pixel_cps("cutmix"), batch_of()
    u = batch.unlabeled
    u.boxes = u.boxes[:, :, [0, 0]]
    doubled = method.step(batch).terms["loss_cps"]
    u.boxes = torch.zeros_like(u.boxes)
    assert torch.equal(doubled, method.step(batch).terms["loss_cps"])


def test_labels_move_with_the_pixels_they_were_made_for() -> None:
    method, batch = pixel_cps("cutmix"), batch_of(2, 3)
    batch.unlabeled.boxes[:] = torch.tensor([0, 0, *SIZE])  # three times: everything from the next image
    got = method.step(batch).terms["loss_cps"]
    batch.unlabeled.boxes.zero_()
    assert got.item() == pytest.approx(method.step(batch).terms["loss_cps"].item(), rel=1e-6)


@pytest.mark.parametrize("mixing,passes", [("cutmix", 3), ("none", 2)])
def test_batchnorm_of_both_networks_counts_every_pass(mixing: str, passes: int) -> None:
    method = tiny_cps(mixing)
    method.step(batch_of())
    counts = {int(m.num_batches_tracked) for m in method.modules() if isinstance(m, nn.BatchNorm2d)}
    assert counts == {passes}


def test_the_clean_pass_labels_with_the_statistics_of_its_batch() -> None:
    method, batch = tiny_cps("cutmix"), batch_of(box=False)
    in_train_mode = method.student_b(batch.unlabeled.weak).argmax(1)
    in_eval_mode = method.eval().student_b(batch.unlabeled.weak).argmax(1)
    assert not torch.equal(in_train_mode, in_eval_mode)
    assert torch.equal(method.train().step(batch).pseudo.labels, in_train_mode)


def test_the_two_networks_begin_differently_and_the_first_is_reported() -> None:
    method = tiny_cps()
    assert not torch.equal(method.student.classifier.weight, method.student_b.classifier.weight)
    assert list(method.evaluated()) == ["student"] and method.teacher_pairs() == []


@pytest.mark.parametrize("mixing", MIXINGS)
@pytest.mark.parametrize("n_labeled,n_unlabeled,n_classes", [(1, 1, 2), (2, 1, 4), (1, 3, 4)])
def test_any_batch_trains_every_parameter(mixing: str, n_labeled: int, n_unlabeled: int, n_classes: int) -> None:
    method, batch = pixel_cps(mixing, n_classes), batch_of(n_labeled, n_unlabeled)
    batch.labels.fill_(255)
    out = method.step(batch)
    out.loss.backward()
    assert out.terms["loss_sup"] == 0 and torch.isfinite(out.loss)
    for net in method.trained():
        assert all(g is not None and g.isfinite().all() for g in gradients(net))


@pytest.mark.parametrize("mixing", MIXINGS)
def test_bf16_agrees_within_two_percent(mixing: str) -> None:
    method, batch = tiny_cps(mixing), batch_of()
    expected = copy.deepcopy(method).step(batch).loss
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = method.step(batch).loss
    loss.backward()
    assert loss.dtype == torch.float32 and loss.item() == pytest.approx(expected.item(), rel=0.02)
    assert all(g.isfinite().all() for net in method.trained() for g in gradients(net))


def test_views_it_asks_for() -> None:
    assert pixel_cps("cutmix").view_spec == ViewSpec(strong=1, recolored=False, cutmix_law="xor3")
    assert pixel_cps("cutmix", strong_colors=True).view_spec.recolored
    assert pixel_cps("none").view_spec == ViewSpec()


@pytest.mark.parametrize(
    "arguments,message",
    [
        ({"mixing": "cut"}, "^mixing=cut: .*allowed: cutmix, none"),
        ({"weight": -1.0}, "^weight=-1.0: allowed are"),
        ({"mixing": "none", "strong_colors": True}, r"method\.strong_colors=true: .* method\.mixing=cutmix"),
    ],
)
def test_wrong_arguments_are_named(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        pixel_cps(**arguments)
