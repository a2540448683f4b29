"""Properties of UniMatch V2, on small random tensors, and its recipe on DINOv2."""

from __future__ import annotations

import copy
import math
from pathlib import Path

import pytest
import torch
from hydra.utils import instantiate
from torch import Tensor, nn
from torch.nn import functional as F

from semiseg.config import compose_config
from semiseg.config.validate import check_config
from semiseg.data.batch import SemiBatch
from semiseg.inference import Resize
from semiseg.methods import unimatch_v2
from semiseg.methods.base import Parts
from semiseg.methods.unimatch_v2 import UniMatchV2
from semiseg.models import Segmentor, dpt
from semiseg.ops.ema import Ema, EmaUpdater
from semiseg.ops.perturb import complementary_mask
from semiseg.training.fit import train
from support.helpers import CLASSES, SIZE, PixelModel, make_batch, make_parts


def pixel_v2(n_classes: int = len(CLASSES), **kwargs) -> UniMatchV2:
    names = [f"class{i}" for i in range(n_classes)]
    return UniMatchV2(Parts(network=lambda: PixelModel(n_classes, scale=3.0), classes=names), ema=Ema(), **kwargs)


def tiny_v2(**kwargs) -> UniMatchV2:
    return UniMatchV2(make_parts(), ema=Ema(), **kwargs).train()


@pytest.fixture
def no_dropout(monkeypatch) -> None:
    monkeypatch.setattr(unimatch_v2, "comp_drop", list)


def bn_counts(network: nn.Module) -> set[int]:
    return {int(m.num_batches_tracked) for m in network.modules() if isinstance(m, nn.BatchNorm2d)}


def oracle(method: UniMatchV2, batch: SemiBatch, mask: Tensor) -> tuple[Tensor, Tensor]:
    """loss_s1 and loss_s2 of a network that looks at single pixels; ``mask`` (2B, 6): factors of its features."""
    u, student = batch.unlabeled, method.student
    prob = method.teacher(u.weak).softmax(1)
    n, height, width = u.padded.shape
    losses = []
    for v in range(2):
        total, count = torch.zeros(()), 0
        for i in range(n):
            y0, x0, y1, x1 = u.boxes[v, i, 0].tolist()
            for y in range(height):
                for x in range(width):
                    source = n - 1 - i if y0 <= y < y1 and x0 <= x < x1 else i
                    if u.padded[source, y, x]:
                        continue
                    count += 1
                    confidence, label = prob[source, :, y, x].max(0)
                    if confidence < method.conf_threshold:
                        continue
                    pixel = u.strong[v, source, :, y, x].view(1, 3, 1, 1)
                    feature = student.encoder(pixel) * mask[v * n + i].view(1, -1, 1, 1)
                    total = total + F.cross_entropy(student.classify(feature, (1, 1)).flatten(), label)
        losses.append(total / count)
    return losses[0], losses[1]


@pytest.mark.parametrize("n_unlabeled", [2, 3])
def test_loss_and_gradients_against_a_loop(n_unlabeled: int) -> None:
    method, batch = pixel_v2(conf_threshold=0.6, unsup_weight=2.0), make_batch(1, n_unlabeled)
    u = batch.unlabeled
    batch.labeled, batch.labels = batch.labeled[..., :12, :10], batch.labels[..., :12, :10]
    u.weak, u.strong, u.padded = u.weak[..., :12, :10], u.strong[..., :12, :10], u.padded[:, :12, :10].clone()
    u.padded[0, -3:] = True
    u.boxes[:, 0, 0] = torch.tensor([[2, 3, 11, 9], [0, 0, 6, 10]])
    u.boxes[:, 1, 0] = torch.tensor([[0, 0, 0, 0], [4, 1, 12, 8]])
    torch.manual_seed(7)
    out = method.step(batch)
    out.loss.backward()
    got = [p.grad.clone() for p in method.student.parameters()]
    method.zero_grad()
    torch.manual_seed(7)
    loss_s1, loss_s2 = oracle(method, batch, complementary_mask(n_unlabeled, 6))
    loss_sup = F.cross_entropy(method.student(batch.labeled), batch.labels, ignore_index=255)
    loss = (loss_sup + 2.0 * (loss_s1 + loss_s2) / 2) / 2
    loss.backward()
    assert 0 < out.keep.float().mean() < 1
    for name, expected in (("loss_sup", loss_sup), ("loss_s1", loss_s1), ("loss_s2", loss_s2)):
        assert out.terms[name].item() == pytest.approx(expected.item(), rel=1e-5)
    assert out.loss.item() == pytest.approx(loss.item(), rel=1e-5)
    for a, p in zip(got, method.student.parameters(), strict=True):
        torch.testing.assert_close(a, p.grad, rtol=1e-5, atol=1e-6)


def test_weights_of_the_three_losses() -> None:
    out = tiny_v2(conf_threshold=0.0).step(make_batch())
    a, b, c = (out.terms[k] for k in ("loss_sup", "loss_s1", "loss_s2"))
    assert out.loss.item() == pytest.approx((0.5 * a + 0.25 * b + 0.25 * c).item(), rel=1e-6)


def test_above_any_confidence_half_of_the_supervised_loss_is_left() -> None:
    method, batch = tiny_v2(), make_batch()
    method.conf_threshold = 1.1
    out = method.step(batch)
    out.loss.backward()
    assert torch.equal(out.loss, out.terms["loss_sup"] / 2) and not out.keep.any()
    assert all(p.grad is not None for p in method.student.parameters())


@pytest.mark.parametrize("box", [True, False])
def test_the_dropout_of_all_levels_is_seen_by_the_strong_views_only(box: bool, monkeypatch) -> None:
    method, batch = tiny_v2(conf_threshold=0.0), make_batch(3, 2, box=box)
    seen = []
    monkeypatch.setattr(unimatch_v2, "comp_drop", lambda features: seen.append(features) or features)
    method.step(batch)
    assert len(seen) == 1 and [len(f) for f in seen[0]] == [4, 4, 4, 4]
    assert [f.shape[1] for f in seen[0]] == list(method.student.encoder.channels)


def test_on_identical_views_without_dropout_the_student_learns_its_own_confidence(no_dropout) -> None:
    method, batch = pixel_v2(conf_threshold=0.0), make_batch()
    u = batch.unlabeled
    u.strong = u.weak.expand_as(u.strong).clone()
    u.boxes.zero_()
    log_max = method.student(u.weak).log_softmax(1).amax(1)
    expected = -(log_max * ~u.padded).sum() / (~u.padded).sum()
    terms = method.step(batch).terms
    assert terms["loss_s1"].item() == pytest.approx(expected.item(), rel=1e-5)
    assert torch.equal(terms["loss_s1"], terms["loss_s2"])


def test_full_boxes_swap_the_two_images(no_dropout) -> None:
    method, batch = pixel_v2(conf_threshold=0.5), make_batch()
    batch.unlabeled.boxes[:] = torch.tensor([0, 0, *SIZE])
    reversed_batch = copy.deepcopy(batch)
    u = reversed_batch.unlabeled
    u.weak, u.strong, u.padded = u.weak.flip(0), u.strong.flip(1), u.padded.flip(0)
    u.boxes.zero_()
    got, expected = method.step(batch), method.step(reversed_batch)
    assert 0 < got.keep.float().mean() < 1
    for name in ("loss_s1", "loss_s2"):
        assert got.terms[name].item() == pytest.approx(expected.terms[name].item(), rel=1e-6)


def test_each_view_has_its_own_box(no_dropout) -> None:
    method, batch = pixel_v2(conf_threshold=0.0), make_batch()
    before = method.step(batch)
    batch.unlabeled.boxes[1, 0] = torch.tensor([0, 0, 30, 10])
    after = method.step(batch)
    assert torch.equal(before.terms["loss_s1"], after.terms["loss_s1"])
    assert not torch.equal(before.terms["loss_s2"], after.terms["loss_s2"])


# -- the teacher ----------------------------------------------------------------------------------------------


def test_the_teacher_stays_in_eval_mode_and_the_student_passes_twice() -> None:
    method = tiny_v2()
    teacher = copy.deepcopy(method.teacher.state_dict())
    method.step(make_batch()).loss.backward()
    assert method.student.training and not any(m.training for m in method.teacher.modules())
    assert all(torch.equal(v, teacher[k]) for k, v in method.teacher.state_dict().items())
    assert bn_counts(method.student) == {2}
    assert all(p.grad is None for p in method.teacher.parameters())


def test_the_teacher_labels_the_weak_view() -> None:
    method, batch = pixel_v2(), make_batch()
    nn.init.normal_(method.teacher.classifier.weight)
    expected = method.teacher(batch.unlabeled.weak).softmax(1).max(1)
    pseudo = method.step(batch).pseudo
    assert torch.equal(pseudo.labels, expected.indices)
    torch.testing.assert_close(pseudo.confidence, expected.values)


def test_the_teacher_is_the_mean_of_all_students_and_then_an_exponential_average() -> None:
    cfg = compose_config(["method=unimatch_v2"])
    method = instantiate(cfg.method, _partial_=True)(make_parts())
    (updater,) = (EmaUpdater(pair) for pair in method.teacher_pairs())
    bn = "decoder.refine.1.running_mean"
    names = ["classifier.weight", bn]
    sums = {name: torch.zeros_like(method.student.state_dict()[name], dtype=torch.float64) for name in names}
    for k in range(253):
        before = copy.deepcopy({n: method.teacher.state_dict()[n] for n in names})
        for name in names:
            value = method.student.state_dict()[name].normal_()
            sums[name] += value
        updater.update(k)
        for name in names:
            student, teacher = method.student.state_dict()[name], method.teacher.state_dict()[name]
            if k == 0:
                assert torch.equal(teacher, student)
            elif k < 250:
                torch.testing.assert_close(teacher, (sums[name] / (k + 1)).float(), rtol=1e-4, atol=1e-5)
            else:
                torch.testing.assert_close(teacher, 0.996 * before[name] + 0.004 * student)


# -- awkward batches ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n_labeled,n_unlabeled,n_classes", [(1, 1, 2), (2, 1, 4), (1, 3, 4), (3, 2, 4)])
def test_any_batch_gives_finite_losses_and_trains_every_parameter(
    n_labeled: int, n_unlabeled: int, n_classes: int
) -> None:
    method, batch = pixel_v2(n_classes, conf_threshold=0.0), make_batch(n_labeled, n_unlabeled)
    batch.labels.fill_(255)
    out = method.step(batch)
    out.loss.backward()
    assert out.terms["loss_sup"] == 0 and torch.isfinite(out.loss) and out.loss > 0
    assert all(p.grad is not None and p.grad.isfinite().all() for p in method.student.parameters())


def test_a_batch_of_padding_teaches_nothing() -> None:
    method, batch = pixel_v2(conf_threshold=0.0), make_batch()
    batch.unlabeled.padded[:] = True
    out = method.step(batch)
    assert torch.equal(out.loss, out.terms["loss_sup"] / 2)


def test_bf16_agrees_within_two_percent() -> None:
    method, batch = tiny_v2(conf_threshold=0.0), make_batch()
    torch.manual_seed(3)
    expected = copy.deepcopy(method).step(batch).loss
    torch.manual_seed(3)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = method.step(batch)
    out.loss.backward()
    assert out.loss.dtype == out.pseudo.confidence.dtype == torch.float32
    assert out.loss.item() == pytest.approx(expected.item(), rel=0.02)
    assert all(p.grad.isfinite().all() for p in method.student.parameters())


# -- DINOv2 and DPT -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def dinov2() -> Segmentor:
    torch.manual_seed(0)
    return dpt("dinov2_s", len(CLASSES), width=16, level_channels=(16, 16, 16, 16))


@torch.no_grad()
def test_train_and_eval_mode_are_one(dinov2: Segmentor) -> None:
    x = torch.randn(1, 3, 28, 42)
    assert torch.equal(dinov2.train()(x), dinov2.eval()(x))


@torch.no_grad()
def test_images_of_100_x_150_pass_as_98_x_154(dinov2: Segmentor) -> None:
    seen = []
    handle = dinov2.encoder.register_forward_pre_hook(lambda _, inputs: seen.append(tuple(inputs[0].shape[-2:])))
    logits = Resize(multiple=14)(dinov2.eval(), torch.randn(1, 3, 100, 150))
    handle.remove()
    assert seen == [(98, 154)] and logits.shape == (1, len(CLASSES), 100, 150)


def test_the_transformer_levels_share_one_mask(dinov2: Segmentor, monkeypatch) -> None:
    method = UniMatchV2(Parts(network=lambda: dinov2.train(), classes=CLASSES, crop_size=(28, 42)), ema=Ema())
    batch = make_batch()
    u = batch.unlabeled
    batch.labeled, batch.labels = batch.labeled[..., :28, :], batch.labels[:, :28]
    u.weak, u.strong, u.padded = u.weak[..., :28, :], u.strong[..., :28, :], u.padded[:, :28]
    decoded = []
    decode = dinov2.decode
    monkeypatch.setattr(dinov2, "decode", lambda features: decoded.append(features) or decode(features))
    method.step(batch)
    zeros = [(f.flatten(2) == 0).all(2) for f in decoded[-1]]
    assert len(zeros) == 4 and all(torch.equal(z, zeros[0]) for z in zeros) and zeros[0].any()
    assert not (zeros[0][:2] & zeros[0][2:]).any()  # dropped in one view only


def test_the_recipe_composes_and_trains(tmp_path: Path) -> None:
    cfg = compose_config(["experiment=unimatch_v2_dinov2", "data=shapes"])
    cfg.num_classes = 3
    check_config(cfg)
    assert cfg.choices == {"data": "shapes", "method": "unimatch_v2", "model": "dpt_dinov2_s"}
    assert cfg.crop_size == [518, 518] and (cfg.batch.labeled, cfg.batch.unlabeled) == (16, 16)
    assert (cfg.optim.lr, cfg.optim.head_factor, cfg.optim.weight_decay) == (5e-6, 40.0, 0.01)
    assert cfg.eval.multiple == 14 and cfg.model.weights == "none"
    cfg = compose_config(
        [
            "experiment=unimatch_v2_dinov2", "crop_size=[28,42]", "batch.labeled=1", "batch.unlabeled=2", "max_steps=2",
            "val_every=2", "data.n_train=8", "data.n_val=1", "protocol.fraction=0.5", "trainer=debug",
            "loader.num_workers=0", "diagnostics.panels=0",
        ]
    )  # fmt: skip
    result = train(cfg, tmp_path)
    assert result["status"] == "completed" and result["steps"] == 2
    assert math.isfinite(result["miou"]["last_teacher"])
