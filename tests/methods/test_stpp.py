"""ST++: what each stage learns, and what happens between them."""

from __future__ import annotations

import copy
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from semiseg.config import compose_config
from semiseg.config.settings import read_settings
from semiseg.inference import Whole, most_probable
from semiseg.methods import stpp
from semiseg.methods.base import Parts
from semiseg.methods.stpp import STPlusPlus
from semiseg.ops.schedules import poly
from semiseg.ops.self_training import image_miou
from semiseg.runs.checkpoint import load_checkpoint
from semiseg.training.assemble import assemble
from semiseg.training.fit import train
from semiseg.training.optim import SGDPoly
from support.helpers import CLASSES, SIZE, PixelModel, make_batch, make_parts, two_processes
from support.tiny import tiny

FIRST, SECOND, THIRD = 0, 10, 20


def method(step: int = FIRST, *, network=None, **kwargs) -> STPlusPlus:
    torch.manual_seed(0)
    parts = make_parts() if network is None else Parts(network=network, classes=CLASSES)
    parts.max_steps, parts.optim = 30, SGDPoly(max_steps=30, lr=1.0, head_factor=2.0)
    made = STPlusPlus(parts, **({"label_scales": (1.0,), "label_flip": False} | kwargs)).train()
    for snapshot in made.snapshots:
        for p in snapshot.parameters():
            nn.init.normal_(p)
    made.steps_done = step
    return made


def pixel_method(step: int, **kwargs) -> STPlusPlus:
    return method(step, network=PixelModel, **kwargs)


def erase_with_zero(monkeypatch) -> None:
    monkeypatch.setattr(stpp, "erased", lambda images, mask: images.masked_fill(mask[:, None], 0.0))


def slow_loss(m: STPlusPlus, batch, targets: Tensor) -> float:
    """One mean over the labeled pixels and the targets of both kinds of images."""
    u = batch.unlabeled
    cut = torch.zeros_like(u.padded)
    cut[:, 4:20, 6:30] = True
    images = torch.cat([batch.labeled, u.strong[0].masked_fill(cut[:, None], 0.0)])
    labels = torch.cat([batch.labels, targets.masked_fill(cut, 255)])
    logits, losses = m.student(images), []
    for i, y, x in ((labels != 255).nonzero()).tolist():
        losses.append(F.cross_entropy(logits[i, :, y, x], labels[i, y, x]).item())
    return sum(losses) / len(losses)


# -- what is learned ------------------------------------------------------------------------------------------


def test_the_first_stage_learns_labeled_images_alone() -> None:
    m, batch = method(), make_batch(n_strong=1)
    batch.unlabeled.strong = batch.unlabeled.weak = None  # not looked at
    out = m.step(batch)
    assert out.pseudo is None and out.terms["loss_unsup"] == 0 and torch.equal(out.loss, out.terms["loss_sup"])


def test_the_second_stage_learns_the_stable_images_too(monkeypatch) -> None:
    erase_with_zero(monkeypatch)
    m, batch = pixel_method(SECOND), make_batch(n_strong=1)
    m.reliable = frozenset({"u1"})
    u = batch.unlabeled
    labels = m.snapshots[2](u.weak).argmax(1)
    out = m.step(batch)
    assert torch.equal(out.pseudo.labels, labels)
    assert not out.keep[0].any() and torch.equal(out.keep[1], ~u.padded[1])
    targets = labels.masked_fill(~out.keep, 255)
    assert out.loss.item() == pytest.approx(slow_loss(m, batch, targets), rel=1e-4)


def test_the_third_stage_learns_all_images_each_by_its_labeler(monkeypatch) -> None:
    erase_with_zero(monkeypatch)
    m, batch = pixel_method(THIRD), make_batch(n_strong=1)
    m.reliable = frozenset({"u1"})
    u = batch.unlabeled
    labels = torch.stack([m.snapshots[0](u.weak).argmax(1)[0], m.snapshots[2](u.weak).argmax(1)[1]])
    out = m.step(batch)
    assert torch.equal(out.pseudo.labels, labels) and torch.equal(out.keep, ~u.padded)
    targets = labels.masked_fill(u.padded, 255)
    assert out.loss.item() == pytest.approx(slow_loss(m, batch, targets), rel=1e-4)


def test_erased_and_padded_pixels_never_enter_the_loss() -> None:
    m, batch = pixel_method(THIRD), make_batch(n_strong=1)
    torch.manual_seed(1)
    before = m.step(batch).loss
    u = batch.unlabeled
    u.weak[:, :, 4:20, 6:30], u.weak[0, :, -3:], u.strong[0, 0, :, -3:] = 3.0, 3.0, u.strong[0, 0, :, :3]
    u.strong[0, :, :, 4:20, 6:30] = u.strong[0, :, :, :16, :24]
    torch.manual_seed(1)
    assert torch.equal(m.step(batch).loss, before)


def test_labeled_images_get_neither_colors_nor_erased_boxes(monkeypatch) -> None:
    m, batch, seen = method(THIRD), make_batch(n_strong=1), []
    monkeypatch.setattr(m, "student_logits", lambda *images: seen.append(images) or (torch.zeros(2, 4, *SIZE),) * 2)
    m.step(batch)
    assert torch.equal(seen[0][0], batch.labeled) and not torch.equal(seen[0][1], batch.unlabeled.strong[0])
    assert not m.view_spec.labeled_strong


@pytest.mark.parametrize("scales", [(1.0,), (0.5, 1.0, 2.0)])
def test_a_label_is_the_sum_over_scales_and_mirrored_copies(scales: tuple[float, ...]) -> None:
    m, batch = method(SECOND, label_scales=scales, label_flip=True), make_batch(n_strong=1)
    u, network = batch.unlabeled, m.snapshots[2]
    total = torch.zeros(2, 4, *SIZE)
    for s in scales:
        small = F.interpolate(u.weak, [int(n * s) for n in SIZE], mode="bilinear") if s != 1 else u.weak
        both = network(small).softmax(1) + network(small.flip(-1)).softmax(1).flip(-1)
        total += F.interpolate(both, SIZE, mode="bilinear") if s != 1 else both
    pseudo = m.step(batch).pseudo
    torch.testing.assert_close(pseudo.confidence, total.amax(1) / (2 * len(scales)))
    assert (pseudo.labels == total.argmax(1)).float().mean() > 0.999


def test_mirrored_copies_change_nothing_for_a_network_that_commutes_with_them() -> None:
    plain, mirrored = (pixel_method(SECOND, label_flip=flip) for flip in (False, True))
    mirrored.load_state_dict(plain.state_dict())
    u = make_batch(n_strong=1).unlabeled
    a, b = (m.labeled_by_snapshots(u) for m in (plain, mirrored))
    torch.testing.assert_close(a.confidence, b.confidence)
    assert torch.equal(a.labels, b.labels)


def test_snapshots_stay_as_they_are_in_a_step() -> None:
    m, batch = method(THIRD), make_batch(n_strong=1)
    before = copy.deepcopy(m.snapshots.state_dict())
    m.step(batch).loss.backward()
    assert all(torch.equal(v, before[k]) for k, v in m.snapshots.state_dict().items())
    assert not any(module.training for module in m.snapshots.modules())
    assert all(p.grad is not None for p in m.student.parameters())


@pytest.mark.parametrize("step", [SECOND, THIRD])
def test_later_stages_do_not_wait_for_the_device(step: int, monkeypatch) -> None:
    from contract.test_contract import FORBIDDEN, NoReadBack

    def refuse(*args, **kwargs):
        raise AssertionError("a step read a value back from the device")

    m, batch = method(step, label_scales=(0.5, 1.0), label_flip=True), make_batch(n_strong=1)
    with monkeypatch.context() as patch, NoReadBack():
        for name in FORBIDDEN:
            patch.setattr(torch.Tensor, name, refuse)
        m.step(batch)


# -- between the stages ---------------------------------------------------------------------------------------


def test_stages_of_the_run() -> None:
    m = method()
    assert m.ends == (10, 20, 30)
    assert [m.stage_at(step) for step in (0, 9, 10, 19, 20, 29, 30)] == [0, 0, 1, 1, 2, 2, 2]
    assert [due for due, _ in m.work()] == [3, 7, 10, 20]
    with pytest.raises(ValueError, match=r"stages=\[0.6, 0.5\]: expected ascending"):
        method(stages=(0.6, 0.5))


def test_the_learning_rate_begins_anew_in_every_stage() -> None:
    found = method().configure_optimizers()
    optimizer, scheduler = found["optimizer"], found["lr_scheduler"]["scheduler"]
    rates = []
    for _ in range(30):
        rates.append([group["lr"] for group in optimizer.param_groups])
        optimizer.step()
        scheduler.step()
    assert rates[:10] == rates[10:20] == rates[20:]
    assert [rate[0] for rate in rates[:10]] == pytest.approx([poly(k, 10) for k in range(10)])
    assert all(head == pytest.approx(2 * encoder) for encoder, head in rates)


def test_work_is_done_once_ahead_of_its_step_also_after_a_resume(monkeypatch) -> None:
    done: list[tuple[int, int]] = []
    steps = [0]
    monkeypatch.setattr(STPlusPlus, "global_step", property(lambda self: steps[0]))
    work = [(k, lambda k=k: done.append((k, steps[0]))) for k in (3, 7, 8)]
    monkeypatch.setattr(STPlusPlus, "work", lambda self: work)
    for resumed_at in (0, 7, 8):
        m = method()
        steps[0] = resumed_at
        m.on_train_start()
        for steps[0] in range(resumed_at, 12):
            for part in range(2):  # accumulated batches of one step
                m.on_train_batch_start(None, part)
    assert done == [(3, 3), (7, 7), (8, 8), (7, 7), (8, 8), (8, 8)]


def test_the_stable_half_by_whole_images(monkeypatch) -> None:
    data = ["data.n_train=13", "protocol=", "protocol.count=4", "protocol.fraction=null"]
    cfg = compose_config(tiny("method=stpp", "model.width=8", *data))
    assembly = assemble(read_settings(cfg))
    m, datamodule = assembly.method, assembly.datamodule
    for k, snapshot in enumerate(m.snapshots):
        torch.manual_seed(k)
        for p in snapshot.parameters():
            nn.init.normal_(p, std=0.2)
    monkeypatch.setattr(type(m), "trainer", SimpleNamespace(datamodule=datamodule), raising=False)
    opened = []
    real = type(datamodule.dataset).load_mask
    monkeypatch.setattr(type(datamodule.dataset), "load_mask", lambda self, i: opened.append(i) or real(self, i))
    found = m.stable_half()
    assert not opened and not datamodule._loaders  # no label was looked at; the workers have ended
    scores = {}
    for image_id in datamodule.unlabeled:
        image = datamodule._normalize(torch.from_numpy(datamodule.dataset.load_image(image_id)).permute(2, 0, 1)[None])
        early, middle, final = (most_probable(Whole()(net, image)) for net in m.snapshots)
        pair = [image_miou(x, final, m.num_classes).item() for x in (early, middle)]
        scores[image_id] = sum(pair) / 2
    ranked = sorted(datamodule.unlabeled, key=lambda i: -scores[i])
    assert len(datamodule.unlabeled) == 9 and found == frozenset(ranked[:4])


def begun(rank: int) -> tuple[dict, int, int]:
    torch.manual_seed(rank)
    m = method()
    optimizer = m.configure_optimizers()["optimizer"]
    sum(p.sum() for p in m.student.parameters()).backward()
    optimizer.step()
    states = len(optimizer.state)
    STPlusPlus.trainer = SimpleNamespace(optimizers=[optimizer])
    torch.manual_seed(rank)
    m.start_anew()
    return m.student.state_dict(), states, len(optimizer.state)


def test_all_processes_start_anew_with_the_same_weights_and_no_momentum() -> None:
    (a, states, left), (b, _, _) = two_processes(begun)
    assert all(torch.equal(a[k], b[k]) for k in a)
    assert states > 0 and left == 0
    torch.manual_seed(0)
    fresh = make_parts().network().state_dict()
    assert all(torch.equal(a[k], fresh[k]) for k in a)


def test_a_run_keeps_what_its_stages_need(tmp_path: Path) -> None:
    overrides = ["method=stpp", "method.label_scales=[1.0]", "max_steps=9", "val_every=9", "trainer.save_every=1"]
    stages: list[tuple[int, int]] = []
    kept: dict[str, dict] = {}

    class Spy(STPlusPlus):
        def start_anew(self) -> None:
            stages.append((self.global_step, len(self.reliable)))
            kept[f"student {self.global_step}"] = copy.deepcopy(self.student.state_dict())
            super().start_anew()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stpp, "STPlusPlus", Spy)
        train(compose_config(tiny(*overrides)), tmp_path)
    checkpoint = load_checkpoint(tmp_path / "checkpoints" / "last.ckpt")
    assert stages == [(3, 7), (6, 7)] and len(checkpoint["reliable"]) == 7  # half of 14
    state = checkpoint["state_dict"]
    for place, step in ((2, 3), (0, 6)):
        for k, v in kept[f"student {step}"].items():
            assert torch.equal(state[f"snapshots.{place}.{k}"], v)
            if k.endswith("conv.weight"):
                assert not torch.equal(state[f"student.{k}"], v)
