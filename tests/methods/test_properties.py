"""The numeric properties that ``methods/baselines.md`` lists, on small random tensors."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from semiseg.data.batch import SemiBatch
from semiseg.methods.base import Parts
from semiseg.methods.fixmatch import FixMatch
from semiseg.methods.mean_teacher import MeanTeacher
from semiseg.methods.networks import eval_logits
from semiseg.methods.supervised import Supervised
from semiseg.methods.unimatch import UniMatch
from semiseg.ops.ema import Ema
from support.helpers import CLASSES, PixelModel, make_batch, make_parts, make_views


def pixel_parts(scale: float = 1.0) -> Parts:
    return Parts(network=lambda: PixelModel(scale=scale), classes=CLASSES)


def strong_is_weak(batch: SemiBatch, *, box: bool = False) -> SemiBatch:
    batch.unlabeled.strong = batch.unlabeled.weak.expand_as(batch.unlabeled.strong).clone()
    if not box:
        batch.unlabeled.boxes.zero_()
    return batch


def bn_counts(network: nn.Module) -> set[int]:
    return {int(m.num_batches_tracked) for m in network.modules() if isinstance(m, nn.BatchNorm2d)}


# -- supervised -----------------------------------------------------------------------------------------------


def test_supervised_with_all_pixels_ignored_is_zero_with_a_graph() -> None:
    method, batch = Supervised(make_parts()), make_batch()
    batch.labels.fill_(255)
    loss = method.step(batch).loss
    loss.backward()
    assert loss.item() == 0.0


# -- mean teacher ---------------------------------------------------------------------------------------------


def mean_teacher(parts: Parts | None = None, **kwargs) -> MeanTeacher:
    return MeanTeacher(parts or pixel_parts(), ema=Ema(), **kwargs)


def test_mean_teacher_without_a_box_is_plain_consistency() -> None:
    plain = mean_teacher(mixing="none", conf_mode="none", consistency="squared")
    mixed = mean_teacher(mixing="cutmix", conf_mode="none", consistency="squared")
    mixed.load_state_dict(plain.state_dict())
    batch = make_batch(box=False)
    assert torch.equal(plain.step(batch).loss, mixed.step(batch).loss)


def test_mean_teacher_swapping_images_and_mask_leaves_the_loss() -> None:
    method = mean_teacher(mixing="cutmix", conf_mode="none", consistency="squared")
    batch = make_batch()
    batch.unlabeled.padded[:] = False
    before = method.step(batch).terms["loss_unsup"]
    u = batch.unlabeled
    u.weak, u.strong = u.weak.flip(0), u.strong.flip(1)
    method.mix_mask = lambda views, labels: ~MeanTeacher.mix_mask(method, views, labels)
    assert method.step(batch).terms["loss_unsup"].item() == pytest.approx(before.item(), rel=1e-6)


def test_mean_teacher_of_equal_networks_and_views_agrees() -> None:
    method = mean_teacher(mixing="none", conf_mode="none", consistency="squared")
    batch = strong_is_weak(make_batch())
    assert method.step(batch).terms["loss_unsup"].item() == pytest.approx(0.0, abs=1e-12)


def test_mean_teacher_confidence_rate_scales_the_loss() -> None:
    batch = make_batch()
    none = mean_teacher(mixing="cutmix", conf_mode="none")
    rate = mean_teacher(mixing="cutmix", conf_mode="rate", conf_threshold=0.4)
    rate.load_state_dict(none.state_dict())
    out = rate.step(batch)
    u = batch.unlabeled
    confidence = none.teacher_logits(u.weak).softmax(1).max(1).values
    mixed = torch.where(none.mix_mask(u, u.padded), confidence.flip(0), confidence)
    padded = torch.where(none.mix_mask(u, u.padded), u.padded.flip(0), u.padded)
    share = ((mixed >= 0.4) & ~padded).float().mean()
    assert 0 < share < 1
    expected = share * none.step(batch).terms["loss_unsup"]
    assert out.terms["loss_unsup"].item() == pytest.approx(expected.item(), rel=1e-5)


def test_mean_teacher_ce_against_a_loop() -> None:
    method, batch = mean_teacher(mixing="cutmix", consistency="ce", conf_mode="pixel", conf_threshold=0.3), make_batch()
    u = batch.unlabeled
    prob = method.teacher_logits(u.weak).softmax(1)
    y0, x0, y1, x1 = u.boxes[0, 0, 0].tolist()
    total, (n, h, w) = 0.0, u.padded.shape
    for b in range(n):
        for y in range(h):
            for x in range(w):
                src = n - 1 - b if y0 <= y < y1 and x0 <= x < x1 else b
                if u.padded[src, y, x] or prob[src, :, y, x].max() < 0.3:
                    continue
                logits = method.student(u.strong[0, src, :, y, x].view(1, 3, 1, 1)).flatten()
                total += F.cross_entropy(logits, prob[src, :, y, x].argmax()).item()
    assert method.step(batch).terms["loss_unsup"].item() == pytest.approx(total / (n * h * w), rel=1e-4)


def test_mean_teacher_classmix_keeps_half_of_the_classes() -> None:
    method, batch = mean_teacher(mixing="classmix"), make_batch()
    labels = torch.randint(0, 4, batch.unlabeled.padded.shape)
    from_partner = method.mix_mask(batch.unlabeled, labels)
    for b in range(2):
        inside = ~batch.unlabeled.padded[b]
        assert len(set(labels[b][inside & ~from_partner[b]].tolist())) == 2
        assert from_partner[b][~inside].all()


@pytest.mark.parametrize("key", ["mixing", "consistency", "conf_mode"])
def test_mean_teacher_names_a_wrong_choice(key: str) -> None:
    with pytest.raises(ValueError, match=rf"^{key}=cut: .*allowed"):
        mean_teacher(**{key: "cut"})


# -- fixmatch -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ema", [None, Ema()])
def test_fixmatch_on_identical_views_learns_its_own_confidence(ema: Ema | None) -> None:
    method = FixMatch(pixel_parts(), conf_threshold=0.0, ema=ema)
    batch = strong_is_weak(make_batch())
    u = batch.unlabeled
    log_max = method.student(u.weak).log_softmax(1).max(1).values
    expected = -(log_max * ~u.padded).sum() / (~u.padded).sum()
    assert method.step(batch).terms["loss_unsup"].item() == pytest.approx(expected.item(), rel=1e-5)


@pytest.mark.parametrize("ema", [None, Ema()])
def test_fixmatch_above_any_confidence_is_half_the_supervised_loss(ema: Ema | None) -> None:
    method, batch = FixMatch(make_parts(), ema=ema), make_batch()
    method.conf_threshold = 1.1
    out = method.step(batch)
    assert torch.equal(out.loss, out.terms["loss_sup"] / 2)
    assert out.terms["loss_unsup"] == 0 and not out.keep.any()


def test_fixmatch_ignores_padded_pixels() -> None:
    method, batch = FixMatch(pixel_parts(), conf_threshold=0.0), make_batch()
    before = method.step(batch).loss
    u = batch.unlabeled
    u.weak = torch.where(u.padded[:, None], 9.0, u.weak)
    u.strong = torch.where(u.padded[None, :, None], -9.0, u.strong)
    assert method.step(batch).loss.item() == pytest.approx(before.item(), rel=1e-6)


def test_fixmatch_full_box_takes_everything_from_the_partner() -> None:
    method = FixMatch(pixel_parts(), conf_threshold=0.0)
    batch = make_batch()
    batch.unlabeled.boxes[:] = torch.tensor([0, 0, 32, 40])
    flipped = copy.deepcopy(batch)
    u = flipped.unlabeled
    u.weak, u.strong, u.padded = u.weak.flip(0), u.strong.flip(1), u.padded.flip(0)
    u.boxes.zero_()
    got, want = method.step(batch).terms["loss_unsup"], method.step(flipped).terms["loss_unsup"]
    assert got.item() == pytest.approx(want.item(), rel=1e-6)


def test_fixmatch_reversing_the_batch_permutes_the_loss_only() -> None:
    method = FixMatch(pixel_parts(), conf_threshold=0.3, ema=Ema())
    batch = make_batch()
    before = method.step(batch).loss
    u = batch.unlabeled
    u.weak, u.strong, u.padded = u.weak.flip(0), u.strong.flip(1), u.padded.flip(0)
    assert method.step(batch).loss.item() == pytest.approx(before.item(), rel=1e-6)


@pytest.mark.parametrize("partner", ["same_image", "other"])
@pytest.mark.parametrize("ema", [None, Ema()])
def test_fixmatch_with_a_second_batch_pastes_from_it(partner: str, ema: Ema | None) -> None:
    method = FixMatch(pixel_parts(), conf_threshold=0.0, cutmix_partner=partner, ema=ema)
    batch = make_batch()
    batch.partner = make_views()
    batch.unlabeled.boxes[:] = torch.tensor([0, 0, 32, 40])
    alone = make_batch()
    alone.labeled, alone.labels = batch.labeled, batch.labels
    alone.unlabeled = copy.deepcopy(batch.partner)
    alone.unlabeled.boxes.zero_()
    got = method.step(batch).terms["loss_unsup"]
    flip = FixMatch(pixel_parts(), conf_threshold=0.0, ema=ema)
    flip.load_state_dict(method.state_dict())
    assert got.item() == pytest.approx(flip.step(alone).terms["loss_unsup"].item(), rel=1e-6)


def test_fixmatch_labels_the_partner_ahead_of_the_passes_that_move_batch_norm() -> None:
    """As the released code, and UniMatch here, do."""
    method, batch = FixMatch(make_parts(), conf_threshold=0.0, cutmix_partner="same_image").train(), make_batch()
    batch.partner = make_views()
    labels = eval_logits(method.student, batch.partner.weak).argmax(1)
    seen, label = [], method.eval_labels
    method.eval_labels = lambda views: seen.append(label(views)) or seen[-1]
    method.step(batch)
    assert torch.equal(seen[0].labels, labels) and len(seen) == 1
    confidence = eval_logits(method.student, batch.partner.weak).softmax(1).amax(1)
    assert not torch.equal(seen[0].confidence, confidence)  # the passes have moved the statistics since


# -- unimatch -------------------------------------------------------------------------------------------------


def test_unimatch_weights() -> None:
    method, batch = UniMatch(make_parts(), conf_threshold=0.0), make_batch()
    out = method.step(batch)
    a, b, c, d = (out.terms[k] for k in ("loss_sup", "loss_s1", "loss_s2", "loss_fp"))
    assert out.loss.item() == pytest.approx((0.5 * a + 0.125 * b + 0.125 * c + 0.25 * d).item(), rel=1e-6)


def test_unimatch_without_perturbation_has_three_equal_terms() -> None:
    method = UniMatch(pixel_parts(), conf_threshold=0.0, feature_dropout=0.0)
    out = method.step(strong_is_weak(make_batch()))
    s1, s2, fp = (out.terms[k].item() for k in ("loss_s1", "loss_s2", "loss_fp"))
    assert s1 == pytest.approx(s2, rel=1e-6) and s1 == pytest.approx(fp, rel=1e-6)
    assert out.loss.item() == pytest.approx((out.terms["loss_sup"].item() + fp) / 2, rel=1e-6)


def test_unimatch_above_any_confidence_learns_from_labels_only() -> None:
    method, batch = UniMatch(pixel_parts()), make_batch()
    method.conf_threshold = 1.1
    batch.unlabeled.weak.requires_grad_()
    batch.unlabeled.strong.requires_grad_()
    out = method.step(batch)
    out.loss.backward()
    assert torch.equal(out.loss, out.terms["loss_sup"] / 2)
    assert not batch.unlabeled.weak.grad.any() and not batch.unlabeled.strong.grad.any()


def test_unimatch_no_gradient_through_the_weak_logits_but_through_dropped_features() -> None:
    method, batch = UniMatch(pixel_parts(), conf_threshold=0.0), make_batch()
    seen = {}
    classify, features = method.student.classify, method.student.features

    def keep_logits(decoded, size):
        logits = classify(decoded, size)
        if "logits" not in seen:
            seen["logits"] = logits
            logits.retain_grad()
        return logits

    def keep_features(x):
        maps = features(x)
        if "features" not in seen:
            seen["features"] = maps[0]
            maps[0].retain_grad()
        return maps

    method.student.classify, method.student.features = keep_logits, keep_features
    out = method.step(batch)
    out.terms["loss_fp"].backward()
    labeled, weak, dropped = seen["logits"].grad.split(2)
    assert not labeled.any() and not weak.any() and dropped.any()
    assert seen["features"].grad[2:].any()  # the encoder learns from the perturbed stream


def test_unimatch_batchnorm_sees_two_passes_and_not_the_eval_pass() -> None:
    for partner, views in (("flip", None), ("same_image", make_views())):
        method, batch = UniMatch(make_parts(), cutmix_partner=partner), make_batch()
        method.train()
        batch.partner = views
        before = bn_counts(method.student)
        method.step(batch)
        assert {n - m for n in bn_counts(method.student) for m in before} == {2}
        assert method.student.training


def test_unimatch_drops_whole_channels_in_eval_mode_too(monkeypatch) -> None:
    method, batch = UniMatch(pixel_parts()), make_batch()
    method.eval()
    seen = []
    decode = method.student.decode
    monkeypatch.setattr(method.student, "decode", lambda maps: (seen.append(maps[0].detach()), decode(maps))[1])
    method.step(batch)
    clean, dropped = seen[0].chunk(2)
    ratio = (dropped / clean).flatten(2)
    kept = ratio[..., :1].round()
    assert torch.allclose(ratio, kept.expand_as(ratio), atol=1e-5)  # a channel is dropped as a whole
    assert set(kept.flatten().tolist()) == {0.0, 2.0}


def test_unimatch_boxes_take_labels_and_padding_of_the_partner() -> None:
    method = UniMatch(pixel_parts(), conf_threshold=0.0)
    batch = make_batch()
    u = batch.unlabeled
    u.boxes[0], u.boxes[1] = torch.tensor([20, 0, 32, 40]), torch.tensor([0, 0, 0, 0])
    labels, size = method.student(u.weak).argmax(1), u.padded.shape[-2:]
    for k, term in ((0, "loss_s1"), (1, "loss_s2")):
        y0, x0, y1, x1 = u.boxes[k, 0, 0].tolist()
        total = count = 0.0
        for b in range(2):
            for y in range(size[0]):
                for x in range(size[1]):
                    src = 1 - b if y0 <= y < y1 and x0 <= x < x1 else b
                    if u.padded[src, y, x]:
                        continue
                    logits = method.student(u.strong[k, src, :, y, x].view(1, 3, 1, 1)).flatten()
                    total += F.cross_entropy(logits, labels[src, y, x]).item()
                    count += 1
        assert method.step(batch).terms[term].item() == pytest.approx(total / count, rel=1e-4)


# -- shared ---------------------------------------------------------------------------------------------------


def test_eval_logits_restores_mixed_modes_and_leaves_statistics() -> None:
    network = make_parts().network().train()
    frozen = next(m for m in network.modules() if isinstance(m, nn.BatchNorm2d)).eval()
    modes = [m.training for m in network.modules()]
    counts = bn_counts(network)
    logits = eval_logits(network, torch.randn(2, 3, 32, 32))
    assert not logits.requires_grad and not frozen.training
    assert [m.training for m in network.modules()] == modes and bn_counts(network) == counts


def test_the_teacher_stays_in_eval_mode_and_takes_no_gradient() -> None:
    method = MeanTeacher(make_parts(), ema=Ema())
    method.train()
    assert not any(m.training for m in method.teacher.modules()) and method.student.training
    method.step(make_batch()).loss.backward()
    assert all(p.grad is None and not p.requires_grad for p in method.teacher.parameters())
    assert any(p.grad is not None for p in method.student.parameters())
    assert bn_counts(method.teacher) == {0}
