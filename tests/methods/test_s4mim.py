"""S4MIM as a whole: what it shares with its base, what it adds. Numbers in brackets: section 13 of its notes."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from semiseg.data.batch import SemiBatch
from semiseg.methods.base import Parts, SemiMethod
from semiseg.methods.fixmatch import FixMatch
from semiseg.methods.mean_teacher import MeanTeacher
from semiseg.methods.s4mim import S4MIM
from semiseg.methods.supervised import Supervised
from semiseg.methods.unimatch import UniMatch
from semiseg.models import deeplabv3plus, dpt, segformer, tiny
from semiseg.ops.ema import Ema, EmaUpdater
from semiseg.ops.masking import UNUSED, Masking, Units, feature_aggregation, members
from support.helpers import CLASSES, SIZE, make_batch, make_parts

BASES: dict[str, Callable[[Parts], SemiMethod]] = {
    "unimatch": UniMatch,
    "fixmatch": FixMatch,
    "fixmatch_ema": partial(FixMatch, ema=Ema()),
    "mean_teacher": partial(MeanTeacher, ema=Ema()),
}
TERMS = ("loss_mim", "loss_fa", "loss_sem")
OFF = {"mim_weight": 0.0, "fa_weight": 0.0, "sem_weight": 0.0}
ALL = {"conf_threshold": 0.0, "coverage": 0.0}


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


def build(base: str = "fixmatch", *, parts: Parts | None = None, coverage=0.5, law="classwise", ratio=0.5, **kwargs):
    """S4MIM on units of 16 pixels: 2 x 3 of them in a test image, the last column over the border."""
    mask = Masking(law=law, unit_size=16, ratio=ratio, coverage=coverage)
    return S4MIM(parts or make_parts(), base=BASES[base], mask=mask, **{"ramp": 0.0, **kwargs}).train()


def step(method: SemiMethod, batch: SemiBatch, seed: int = 1):
    torch.manual_seed(seed)
    return method.step(batch)


def gradients(method: S4MIM, loss: Tensor) -> list[Tensor | None]:
    parameters = [p for network in method.trained() for p in network.parameters()]
    return list(torch.autograd.grad(loss, parameters, allow_unused=True))


# -- the base -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("base", BASES)
def test_networks_are_shared_and_in_the_state_once(base: str) -> None:
    made = []
    parts = dataclasses.replace(make_parts(), network=lambda: made.append(1) or tiny(len(CLASSES), width=8))
    method = build(base, parts=parts)
    assert len(made) == 1
    assert method.student is method.base.student and method.teacher is method.base.teacher
    assert method.ema is method.base.ema and method.view_spec is method.base.view_spec
    own = {"student", "reconstruction"} | ({"teacher"} if method.teacher is not None else set())
    assert {name.split(".")[0] for name in method.state_dict()} == own
    assert list(method.evaluated()) == list(method.metrics) == list(method.base.evaluated())
    assert len(list(method.parameters())) == len({id(p) for p in method.parameters()})
    twin = copy.deepcopy(method)
    assert twin.student is twin.base.student and twin.student is not method.student


@pytest.mark.parametrize("base", BASES)
def test_modes_are_those_of_the_base(base: str) -> None:
    method = build(base)
    for mode in (True, False, True):
        method.train(mode)
        assert method.base.training == method.training == method.reconstruction.training == mode
        assert all(m.training == mode for m in method.student.modules())
        assert method.teacher is None or not any(m.training for m in method.teacher.modules())


@pytest.mark.parametrize("base", BASES)
def test_every_base_trains_every_parameter(base: str) -> None:
    method, batch = build(base, fill="learned", **ALL), make_batch()
    out = step(method, batch)
    assert {*TERMS, "active_pairs", "masked_ratio", "loss_sup"} <= out.terms.keys()
    assert out.terms["active_pairs"] > 0 and 0 < out.terms["masked_ratio"] < 1
    expected = step(method.base, batch).loss + sum(w * out.terms[k] for w, k in zip((0.1, 0.1, 0.25), TERMS))
    assert out.loss.isfinite()
    if base == "fixmatch_ema":  # the others label in train mode or drop features at random: BatchNorm has moved on
        torch.testing.assert_close(out.loss, expected)
    grads = gradients(method, out.loss)
    assert all(g is not None and g.isfinite().all() for g in grads)
    assert method.token.color.grad is None and grads[-1].abs().sum() > 0
    assert all(p.grad is None for p in (method.teacher or nn.Identity()).parameters())


@pytest.mark.parametrize("base", BASES)
@pytest.mark.parametrize("kwargs", [OFF, {}], ids=["off", "nothing confident"])
def test_switched_off_it_is_the_base_bit_exactly(base: str, kwargs: dict) -> None:  # (8)
    method = build(base, **kwargs)
    if kwargs is not OFF:
        method.conf_threshold = 1.1
    plain, batch = copy.deepcopy(method).base, make_batch()
    out, expected = step(method, batch), step(plain, batch)
    assert torch.equal(out.loss, expected.loss)
    assert all(torch.equal(out.terms[k], v) for k, v in expected.terms.items())
    assert torch.equal(out.pseudo.labels, expected.pseudo.labels) and torch.equal(out.keep, expected.keep)
    if kwargs is OFF:
        assert out.terms.keys() == expected.terms.keys() and method.reconstruction is None
        assert method.trained() == [method.student]
    else:
        assert all(out.terms[k] == 0 for k in (*TERMS, "active_pairs", "masked_ratio"))
    out.loss.backward()
    expected.loss.backward()
    for (name, ours), theirs in zip(method.student.named_parameters(), plain.student.parameters(), strict=True):
        assert torch.equal(ours.grad, theirs.grad), name
    if method.reconstruction is not None:
        assert all(p.grad is not None and not p.grad.any() for p in method.reconstruction.parameters())


def test_the_base_knows_how_far_the_run_is() -> None:
    method = build(ramp=0.05)
    method.steps_done, method.max_steps = 7, 40
    step(method, make_batch())
    assert (method.base.steps_done, method.base.max_steps) == (7, 40)


def test_the_reconstruction_decoder_is_trained_but_not_averaged() -> None:
    method = build("mean_teacher")
    assert method.trained() == [method.student, method.reconstruction]
    (pair,) = method.teacher_pairs()
    assert pair.teacher is method.teacher and pair.student is method.student
    before = copy.deepcopy(method.reconstruction.state_dict())
    EmaUpdater(pair).update(3)
    assert all(torch.equal(v, before[k]) for k, v in method.reconstruction.state_dict().items())


def test_a_base_with_other_state_is_refused() -> None:
    class Queue(FixMatch):
        def __init__(self, parts: Parts) -> None:
            super().__init__(parts)
            self.register_buffer("queue", torch.zeros(3))

    for base in (Queue, Supervised, partial(S4MIM, base=FixMatch)):
        with pytest.raises(ValueError, match=r"method\.base=\w+: allowed are .* unimatch"):
            S4MIM(make_parts(), base=base)


@pytest.mark.parametrize(
    "key,value",
    [("fill", "x"), ("target", "x"), ("fa_distance", "x"), ("sem_where", "x"), ("ramp", 1.5), ("max_classes", 0)],
)
def test_wrong_values_are_named(key: str, value: object) -> None:
    with pytest.raises(ValueError, match=rf"^{key}=.*allowed"):
        build(**{key: value})


# -- the masked pass ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("base", BASES)
def test_running_statistics_do_not_see_masked_images(base: str) -> None:  # (9)
    method, batch = build(base, **ALL), make_batch()
    plain = copy.deepcopy(method).base
    passes: list[tuple[bool, float]] = []
    norm = next(m for m in method.student.modules() if isinstance(m, nn.BatchNorm2d))
    norm.register_forward_hook(lambda m, *_: passes.append((m.training, m.momentum)))
    step(method, batch)
    step(plain, batch)
    ours, theirs = dict(method.student.named_buffers()), dict(plain.student.named_buffers())
    assert all(torch.equal(v, theirs[k]) for k, v in ours.items() if "running" in k)
    assert passes[-1] == (True, 0.0) and norm.momentum == 0.1  # statistics of the batch


def test_hidden_pixels_are_replaced_and_visible_ones_are_not() -> None:
    method, batch, seen = build(fill="learned", **ALL), make_batch(), []
    with torch.no_grad():
        method.token.color.copy_(torch.tensor([1.0, 2.0, 3.0]).view(3, 1, 1))
    method.student.encoder.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    out = step(method, batch)
    hidden = (seen[-1] == method.token.color).all(dim=1)
    assert out.terms["masked_ratio"].item() == pytest.approx(hidden.float().mean().item(), rel=1e-6)
    assert torch.equal(torch.where(hidden[:, None], seen[-1], batch.unlabeled.weak), seen[-1])
    assert torch.equal(hidden[:, ::16, ::16].repeat_interleave(16, 1).repeat_interleave(16, 2)[..., :40], hidden)


def test_the_seed_decides_what_is_hidden() -> None:
    method, batch = build("mean_teacher", max_classes=1, **ALL), make_batch()
    first, again, other = (step(method, batch, seed).terms for seed in (1, 1, 2))
    assert all(torch.equal(first[k], again[k]) for k in TERMS)
    assert not any(torch.equal(first[k], other[k]) for k in TERMS)


def test_without_a_mask_the_semantic_term_is_plain_cross_entropy() -> None:  # (8)
    method, batch = build(ratio=0.0, conf_threshold=0.0).eval(), make_batch()
    out = step(method, batch)
    logits, padded = method.student(batch.unlabeled.weak), batch.unlabeled.padded
    expected = F.cross_entropy(logits, logits.argmax(dim=1).masked_fill(padded, 255), ignore_index=255)
    assert out.terms["loss_sem"].item() == pytest.approx(expected.item(), rel=1e-5)
    assert out.terms["loss_mim"] == out.terms["loss_fa"] == out.terms["active_pairs"] == 0
    assert all(g is not None and g.isfinite().all() for g in gradients(method, out.loss))


def test_the_semantic_term_divides_by_all_pixels_inside_the_images() -> None:
    method, batch = build(conf_threshold=0.4, sem_where="masked", law="random"), make_batch()
    pseudo = method.base.step(batch).pseudo
    keep, hidden = pseudo.keep(0.4), torch.rand(2, *SIZE) < 0.5
    decoded = method.student.decode(method.student.features(batch.unlabeled.weak)).detach()
    logits = method.student.classify(decoded, SIZE).detach().log_softmax(dim=1)
    for where, learned in (("masked", keep & hidden), ("all", keep)):
        method.sem_where, total = where, 0.0
        for i in range(2):
            for y in range(SIZE[0]):
                for x in range(SIZE[1]):
                    total -= float(logits[i, pseudo.labels[i, y, x], y, x]) if learned[i, y, x] else 0.0
        expected = total / int((~pseudo.padded).sum())
        assert method.semantic_loss(decoded, pseudo, keep, hidden).item() == pytest.approx(expected, rel=1e-4)


# -- the terms of pairs ---------------------------------------------------------------------------------------


def mask_of_units() -> tuple[Units, Tensor]:
    """Two images of 2 x 3 units; of class 3 nothing is visible, of class 1 nothing in the second image."""
    labels = torch.tensor([[[0, 0, 1], [1, -1, 1]], [[2, 2, 3], [0, 2, 0]]])
    hidden = torch.tensor([[[1, 0, 1], [0, 0, 1]], [[0, 1, 1], [1, 1, 0]]]).bool()
    return Units(labels, hidden, 16), torch.tensor([[0, 1, UNUSED], [2, 0, UNUSED]])


@pytest.mark.parametrize("target", ["rgb", "patchnorm"])
def test_the_image_term_agrees_with_one_call_per_pair(target: str) -> None:
    method, (units, classes) = build(target=target), mask_of_units()
    images, context = torch.randn(2, 3, *SIZE), torch.randn(2, 64, 2, 3, requires_grad=True)
    losses = []
    for i, c in ((0, 0), (0, 1), (1, 2), (1, 0)):
        gated = context[i : i + 1] * (units.labels[i] == c)
        rebuilt = method.reconstruction(gated, torch.ones(1, 1, 2, 3, dtype=torch.bool), SIZE)[0, 0]
        total, n = 0.0, 0
        for r, q in ((r, q) for r in range(2) for q in range(3)):
            if units.labels[i, r, q] == c and units.hidden[i, r, q]:
                at = (slice(None), slice(16 * r, 16 * r + 16), slice(16 * q, min(16 * q + 16, SIZE[1])))
                wanted = images[i][at]
                if target == "patchnorm":
                    wanted = (wanted - wanted.mean()) / (wanted.var(unbiased=False) + 1e-6).sqrt()
                total, n = total + (rebuilt[at] - wanted).abs().sum(), n + wanted.numel()
        losses.append(total / n)
    expected = sum(losses) / 4
    got = method.image_loss(context, images, units.hidden_at(SIZE), units, classes)
    assert got.item() == pytest.approx(expected.item(), rel=1e-5)
    torch.testing.assert_close(*(torch.autograd.grad(x, context)[0] for x in (got, expected)), rtol=1e-4, atol=1e-7)


def test_names_of_classes_do_not_matter() -> None:  # (4)
    method, (units, classes) = build(), mask_of_units()
    order = torch.tensor([2, 3, 1, 0])
    renamed = dataclasses.replace(units, labels=torch.where(units.labels < 0, units.labels, order[units.labels]))
    others = torch.where(classes < 0, classes, order[classes])
    images, context, decoded = torch.randn(2, 3, *SIZE), torch.randn(2, 64, 2, 3), torch.randn(2, 16, 16, 20)
    hidden = units.hidden_at(SIZE)
    assert torch.equal(
        method.image_loss(context, images, hidden, units, classes),
        method.image_loss(context, images, hidden, renamed, others),
    )
    assert torch.equal(
        method.feature_loss(decoded, 2, units, classes), method.feature_loss(decoded, 2, renamed, others)
    )


def test_isolated_classes_and_whole_images() -> None:  # (2), (6)
    method, (units, _) = build(), mask_of_units()
    images, hidden = torch.randn(2, 3, *SIZE), units.hidden_at(SIZE)
    context = torch.randn(2, 64, 2, 3, requires_grad=True)
    only = torch.tensor([[0, UNUSED], [UNUSED, UNUSED]])
    (grad,) = torch.autograd.grad(method.image_loss(context, images, hidden, units, only), context)
    assert torch.equal(grad[0].abs().sum(dim=0) > 0, units.labels[0] == 0) and not grad[1].any()
    method.classwise = False
    whole = method.image_loss(context, images, hidden, units, only)
    (grad,) = torch.autograd.grad(whole, context, retain_graph=True)
    assert (grad.abs().sum(dim=1) > 0).all()
    # With one class everywhere both are the same: g of the features as they are.
    method.classwise = True
    single = dataclasses.replace(units, labels=torch.ones_like(units.labels))
    ones = method.image_loss(context, images, hidden, single, torch.tensor([[1], [1]]))
    assert torch.equal(ones, whole)


def test_the_feature_term_reads_the_cells_of_each_unit() -> None:
    method, (units, classes) = build(), mask_of_units()
    decoded = torch.randn(2, 16, 16, 20)
    big = [x.repeat_interleave(8, 1).repeat_interleave(8, 2)[..., :20] for x in (units.labels, units.hidden)]
    cells = members(big[0], classes)
    expected = feature_aggregation(decoded, cells & big[1][:, None], cells & ~big[1][:, None])
    assert torch.equal(method.feature_loss(decoded, 2, units, classes), expected)


def test_padding_is_no_target() -> None:
    method, batch = build(law="random", classwise=False, **ALL), make_batch()
    batch.unlabeled.padded[:, :, 16:] = True
    step_loss = step(method, batch).terms["loss_mim"]
    seen = []
    method.image_loss = lambda context, images, hidden, units, classes: seen.append(hidden) or context.sum()
    step(method, batch)
    assert step_loss.isfinite() and not seen[0][batch.unlabeled.padded].any() and seen[0].any()


# -- options and odd batches ----------------------------------------------------------------------------------


def test_weights_of_pair_terms_rise_over_the_first_part_of_the_run() -> None:
    method, batch = build("fixmatch_ema", ramp=0.1, sem_weight=0.0, **ALL), make_batch()
    method.max_steps = 100
    out = {n: (setattr(method, "steps_done", n), step(method, batch))[1] for n in (0, 5, 10, 50)}
    extra = {n: (o.loss - step(method.base, batch).loss).item() for n, o in out.items()}
    full = 0.1 * (out[0].terms["loss_mim"] + out[0].terms["loss_fa"]).item()
    assert extra == {n: pytest.approx(share * full, abs=1e-5) for n, share in ((0, 0), (5, 0.5), (10, 1), (50, 1))}


@pytest.mark.parametrize("off", TERMS)
def test_a_weight_of_zero_is_not_computed(off: str) -> None:
    method = build(**ALL, **{off.replace("loss_", "") + "_weight": 0.0})
    out = step(method, make_batch())
    assert set(TERMS) - out.terms.keys() == {off}
    assert (method.reconstruction is None) == (off == "loss_mim")
    assert all(g is not None for g in gradients(method, out.loss))


def test_labeled_images_are_masked_by_their_labels() -> None:
    method, batch = build(on_labeled=True, conf_threshold=0.0), make_batch(3, 2)
    images, pseudo = method.whole_views(batch, method.base.step(batch).pseudo)
    assert torch.equal(images[2:], batch.labeled) and torch.equal(pseudo.padded[2:], batch.labels == 255)
    valid = ~pseudo.padded[2:]
    assert torch.equal(pseudo.labels[2:][valid], batch.labels[valid]) and (pseudo.labels < len(CLASSES)).all()
    batch.labels[:] = 2
    out = step(method, batch)
    assert out.loss.isfinite() and out.terms["active_pairs"] >= 3 / 5
    assert len(out.pseudo.labels) == 2  # what is logged stays that of the unlabeled images


@pytest.mark.parametrize("sizes", [(1, 1), (3, 1), (1, 3)])
@pytest.mark.parametrize("padded", [False, True])
def test_batches_of_any_size_even_without_an_image(sizes: tuple[int, int], padded: bool) -> None:
    method, batch = build("mean_teacher", on_labeled=padded, **ALL), make_batch(*sizes)
    batch.unlabeled.padded |= padded
    batch.labels[:] = 255
    out = step(method, batch)
    assert all(v.isfinite() for v in (out.loss, *out.terms.values()))
    assert all(g is not None and g.isfinite().all() for g in gradients(method, out.loss))
    if padded:
        assert all(out.terms[k] == 0 for k in TERMS)


def test_two_classes_and_crops_smaller_than_a_unit() -> None:
    parts = Parts(network=lambda: tiny(2, width=8), classes=("a", "b"), crop_size=SIZE)
    batch = make_batch()
    batch.labels[batch.labels < 255] %= 2
    assert step(build(parts=parts, max_classes=9, **ALL), batch).loss.isfinite()
    large = S4MIM(parts, base=FixMatch, mask=Masking(unit_size=64, coverage=0.0), conf_threshold=0.0).train()
    out = step(large, batch)
    assert out.loss.isfinite() and out.terms["active_pairs"] == 0


@pytest.mark.parametrize(
    "kwargs", [{"fa_distance": "l2"}, {"fa_distance": "proto", "fa_detach_visible": False}, {"target": "patchnorm"}]
)
def test_under_bfloat16_the_terms_are_close_and_float32(kwargs: dict) -> None:
    method, batch = build("fixmatch_ema", **ALL, **kwargs), make_batch()
    fixed = step(
        method.base, batch
    )  # or labels of pixels with two likely classes would change, and the masks with them
    method.base.step = lambda _: fixed
    exact = step(method, batch)
    with torch.autocast("cpu", torch.bfloat16):
        low = step(method, batch)
    assert exact.terms["active_pairs"] > 0
    for name in TERMS:
        assert low.terms[name].dtype == torch.float32
        assert low.terms[name].item() == pytest.approx(exact.terms[name].item(), rel=0.02)
    assert all(g.isfinite().all() for g in gradients(method, low.loss))


@pytest.mark.parametrize(
    "network,unit_size,stride",
    [
        (lambda: tiny(len(CLASSES), width=8), 16, 2),
        (lambda: deeplabv3plus("resnet18d", len(CLASSES), width=32, low_level_width=8), 16, 4),
        (lambda: segformer("mit_b0", len(CLASSES), width=32), 32, 4),
        (lambda: dpt("dinov2_s", len(CLASSES), width=16, level_channels=(16, 16, 16, 16)), 14, 1.75),
    ],
    ids=["tiny", "deeplabv3plus", "segformer", "dpt"],
)
def test_every_family_of_networks(network: Callable, unit_size: int, stride: float) -> None:
    parts = Parts(network=network, classes=CLASSES, crop_size=SIZE)
    mask = Masking(unit_size=unit_size, coverage=0.0)
    method, strides = S4MIM(parts, base=UniMatch, mask=mask, conf_threshold=0.0, ramp=0.0).train(), []
    feature_loss = method.feature_loss
    method.feature_loss = lambda decoded, s, *args: (strides.append(s), feature_loss(decoded, s, *args))[1]
    out = step(method, make_batch())
    assert strides == [stride]
    assert all(g is not None and g.isfinite().all() for g in gradients(method, out.loss))


def test_hidden_parts_become_predictable() -> None:
    method, batch = build("fixmatch_ema", mim_weight=1.0, sem_weight=1.0, **ALL), make_batch()
    batch.unlabeled.weak = batch.unlabeled.weak[..., :1, :1].expand_as(batch.unlabeled.weak).contiguous()
    optimizer = torch.optim.Adam([p for n in method.trained() for p in n.parameters()], lr=1e-3)
    history = []
    for _ in range(30):
        out = step(method, batch)
        optimizer.zero_grad()
        out.loss.backward()
        optimizer.step()
        history.append(out.terms)
    assert history[-1]["loss_mim"] < 0.5 * history[0]["loss_mim"]
    assert history[-1]["loss_sem"] < 0.7 * history[0]["loss_sem"]
