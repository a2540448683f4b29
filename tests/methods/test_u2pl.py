"""U2PL as a whole: reliability, the passes of the teacher, warm-up, processes. The contrast alone: tests/ops."""

from __future__ import annotations

import copy
import math
from functools import partial

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from semiseg.data.batch import IGNORE, SemiBatch
from semiseg.methods.u2pl import U2PL
from semiseg.models import tiny
from semiseg.models.segmentor import Segmentor
from semiseg.ops.contrast import PixelContrast
from semiseg.ops.ema import EmaUpdater
from semiseg.ops.losses import OHEM
from semiseg.ops.schedules import CopyThenWarmup
from support.helpers import CLASSES, make_batch, make_parts, two_processes

SMALL = {"anchors": 8, "negatives": 5, "queue_size": 60, "first_queue_size": 80, "keys_per_class": 20, "dim": 6}


def u2pl(*, network=None, max_steps: int = 80, **kwargs) -> U2PL:
    torch.manual_seed(0)
    parts = make_parts()
    parts.max_steps = max_steps
    patch = pytest.MonkeyPatch()
    if network is not None:
        parts.network = network
        if isinstance(network(), Scripted):  # it has representations of its own
            patch.setattr("semiseg.methods.u2pl.RepresentationSegmentor", lambda plain, dim: plain)
    contrast = partial(PixelContrast, ranks=(1, 20), **SMALL)
    options = {"warmup": 0.0, "copy": 0.0, "cutmix_prob": 0.0, "contrast": contrast}
    method = U2PL(parts, **(options | kwargs))
    patch.undo()
    return method.train()


def clean(batch: SemiBatch) -> SemiBatch:
    batch.unlabeled.padded.zero_()
    batch.unlabeled.strong = batch.unlabeled.weak[None].clone()
    return batch


def dropping() -> Segmentor:
    """A network whose decoder has dropout, as the paper's."""
    network = tiny(len(CLASSES), width=8)
    network.decoder.refine.append(nn.Dropout2d(0.5))
    return network


def norms(network: nn.Module) -> list[nn.BatchNorm2d]:
    return [m for m in network.modules() if isinstance(m, nn.BatchNorm2d)]


# -- schedules ------------------------------------------------------------------------------------------------


def test_alpha_falls_linearly() -> None:
    method = u2pl(max_steps=80)
    for step, alpha in ((0, 20.0), (1, 19.75), (40, 10.0), (79, 0.25)):
        method.steps_done = step
        assert method.alpha == pytest.approx(alpha)


def test_decay_of_the_teacher() -> None:
    decay = CopyThenWarmup(start=0, copies=0)
    for k, value in ((0, 0.0), (1, 0.5), (2, 2 / 3), (98, 0.989899), (99, 0.99), (1000, 0.99)):
        assert decay(k) == pytest.approx(value, abs=1e-6)
    delayed = CopyThenWarmup(start=10, copies=30)
    assert {delayed(i) for i in range(30)} == {0.0}
    assert delayed(30) == pytest.approx(1 - 1 / 21) and delayed(500) == 0.99


def test_a_teacher_that_waits_copies_ahead_of_the_first_semi_supervised_step() -> None:
    waits, follows = (CopyThenWarmup(start=4, copies=6, waits=w) for w in (True, False))
    assert [waits(i) for i in range(6)] == [1.0, 1.0, 1.0, 0.0, 0.0, 0.0]
    assert [follows(i) for i in range(6)] == [0.0] * 6
    assert [waits(i) for i in range(6, 300)] == [follows(i) for i in range(6, 300)]
    assert [CopyThenWarmup(0, 2, waits=True)(i) for i in range(9)] == [CopyThenWarmup(0, 2)(i) for i in range(9)]


@pytest.mark.parametrize("mode", ["waits", "follows"])
def test_the_teachers_weights_during_the_warm_up(mode: str) -> None:
    """Released code: untouched until the warm-up ends, equal to the student's at the first semi-supervised step."""
    method = u2pl(max_steps=10, warmup=0.3, copy=0.1, teacher_in_warmup=mode)
    (pair,) = method.teacher_pairs()
    updater, optimizer = EmaUpdater(pair), torch.optim.SGD(method.student.parameters(), lr=0.1)
    first = [p.clone() for p in method.teacher.parameters()]
    for done in range(4):
        method.steps_done = done
        untouched = all(torch.equal(a, b) for a, b in zip(method.teacher.parameters(), first))
        equal = all(torch.equal(a, b) for a, b in zip(method.teacher.parameters(), method.student.parameters()))
        assert untouched == (done == 0 or (mode == "waits" and done < 3))
        assert equal == (done in (0, 3) or mode == "follows")
        out = method.step(make_batch(n_strong=1))
        optimizer.zero_grad()
        out.loss.backward()
        optimizer.step()
        updater.update(done)


def test_while_it_copies_the_teacher_has_the_students_parameters_and_its_own_statistics() -> None:
    method = u2pl(max_steps=10, copy=0.5)
    (pair,) = method.teacher_pairs()
    updater, optimizer = EmaUpdater(pair), torch.optim.SGD(method.student.parameters(), lr=0.1)
    for done in range(7):
        method.steps_done = done
        out = method.step(make_batch(n_strong=1))
        optimizer.zero_grad()
        out.loss.backward()
        optimizer.step()
        updater.update(done)
        same = [torch.equal(a, b) for a, b in zip(method.teacher.parameters(), method.student.parameters())]
        assert all(same) == (done < 5)
    # The same while the parameters were; now each has seen its own.
    assert not torch.equal(norms(method.teacher)[0].running_mean, norms(method.student)[0].running_mean)
    assert all(p.grad is None for p in method.teacher.parameters())


# -- the loss on pseudo-labels --------------------------------------------------------------------------------


class Scripted(nn.Module):
    """A network with given logits (B, C, h, w), whatever the image; one parameter keeps a graph."""

    def __init__(self, logits: torch.Tensor, labeled: torch.Tensor | None = None) -> None:
        super().__init__()
        self.register_buffer("scripted", logits)
        self.register_buffer("of_labeled", logits if labeled is None else labeled)
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.scale * self.scripted[: len(x)]

    def logits_and_representation(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        n = len(x) - len(self.scripted)
        logits = self.scale * torch.cat([self.of_labeled[:n], self.scripted])
        return logits, self.scale * torch.ones(len(x), SMALL["dim"], *logits.shape[-2:])

    def upsample(self, logits: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
        return logits


def scripted_step(logits: torch.Tensor, **kwargs):
    n, _, h, w = logits.shape
    method = u2pl(network=lambda: Scripted(logits), **kwargs)
    batch = clean(make_batch(n_unlabeled=n, n_strong=1))
    cut = {"labeled": batch.labeled[..., :h, :w], "labels": batch.labels[..., :h, :w]}
    u = batch.unlabeled
    u.weak, u.strong, u.padded = u.weak[..., :h, :w], u.strong[..., :h, :w], u.padded[..., :h, :w]
    batch.labeled, batch.labels = cut["labeled"], cut["labels"]
    return method.step(batch)


def test_a_fifth_is_dropped_and_the_rest_weighs_a_quarter_more() -> None:
    torch.manual_seed(0)
    logits = torch.randn(2, 4, 20, 25)  # 1000 pixels of distinct entropies
    out = scripted_step(logits)
    assert (~out.keep).sum() == 200
    prob = logits.double().softmax(1)
    uncertainty = -(prob * prob.log()).sum(1)
    assert uncertainty[out.keep].max() < uncertainty[~out.keep].min()
    per_pixel = F.cross_entropy(logits, logits.argmax(1), reduction="none")[out.keep]
    assert out.terms["loss_unsup"].item() == pytest.approx(1.25 * per_pixel.mean().item(), rel=1e-5)


def test_late_in_the_run_only_the_most_uncertain_pixel_is_dropped() -> None:
    torch.manual_seed(0)
    out = scripted_step(torch.randn(2, 4, 20, 25), drop_percent=1e-6)
    assert (~out.keep).sum() == 1


def test_equal_entropies_leave_nothing_and_no_nan() -> None:
    out = scripted_step(torch.zeros(2, 4, 20, 25))
    out.loss.backward()
    assert out.terms["loss_unsup"].item() == 0.0 and not out.keep.any() and out.loss.isfinite()


def test_equal_logits_of_the_student_cost_ln_c() -> None:
    """The constant 1.25 ln C: the student knows nothing, the teacher orders the pixels."""
    torch.manual_seed(0)
    logits = torch.randn(2, 4, 20, 25)
    method = u2pl(network=lambda: Scripted(logits))
    method.student.scripted.zero_()
    batch = clean(make_batch(n_strong=1))
    u = batch.unlabeled
    batch.labeled, batch.labels = batch.labeled[..., :20, :25], batch.labels[..., :20, :25]
    u.weak, u.strong, u.padded = u.weak[..., :20, :25], u.strong[..., :20, :25], u.padded[..., :20, :25]
    assert method.step(batch).terms["loss_unsup"].item() == pytest.approx(1.25 * math.log(4), rel=1e-5)


def test_padding_is_neither_learned_nor_ordered() -> None:
    method, batch = u2pl(), make_batch(n_strong=1)
    batch.unlabeled.padded[:] = True
    out = method.step(batch)
    out.loss.backward()
    assert not out.keep.any() and out.terms["loss_unsup"].item() == 0.0 and out.loss.isfinite()


# -- mixing ---------------------------------------------------------------------------------------------------


def test_image_and_labels_come_from_the_next_image_inside_the_box(monkeypatch) -> None:
    method, batch = u2pl(cutmix_prob=1.0), clean(make_batch(n_unlabeled=3, n_strong=1))
    seen = {}
    original = method.student.logits_and_representation
    monkeypatch.setattr(
        method.student, "logits_and_representation", lambda x: seen.setdefault("out", (x, original(x)))[1]
    )
    method.step(batch)
    mixed, u = seen["out"][0][2:], batch.unlabeled
    y0, x0, y1, x1 = u.boxes[0, 0, 0].tolist()
    inside = torch.zeros(u.weak.shape[-2:], dtype=torch.bool)
    inside[y0:y1, x0:x1] = True
    for i in range(3):
        assert torch.equal(mixed[i][:, inside], u.strong[0, (i + 1) % 3][:, inside])
        assert torch.equal(mixed[i][:, ~inside], u.strong[0, i][:, ~inside])


def test_one_image_is_mixed_with_itself() -> None:
    batch = clean(make_batch(n_unlabeled=1, n_strong=1))
    results = [u2pl(cutmix_prob=p, network=None).step(copy.deepcopy(batch)) for p in (0.0, 1.0)]
    assert results[0].terms["loss_unsup"].item() == pytest.approx(results[1].terms["loss_unsup"].item(), rel=1e-6)


def test_kept_pixels_are_counted_in_their_own_image() -> None:
    """Everything reliable: what is visible nowhere (under another image's paste) is not learned."""
    method, batch = u2pl(cutmix_prob=1.0, drop_percent=0.0), clean(make_batch(n_unlabeled=2, n_strong=1))
    batch.unlabeled.boxes[0, 0] = 0  # image 0 stays whole, image 1 gets a part of image 0
    out = method.step(batch)
    y0, x0, y1, x1 = batch.unlabeled.boxes[0, 1, 0].tolist()
    visible = torch.ones_like(out.keep)
    visible[1, y0:y1, x0:x1] = False
    assert not (out.keep & ~visible).any() and (visible & ~out.keep).sum() <= 2


# -- passes ---------------------------------------------------------------------------------------------------


def test_the_teacher_labels_in_eval_mode_and_ranks_in_train_mode(monkeypatch) -> None:
    method, batch = u2pl(network=dropping), make_batch(n_strong=1)
    modes = []

    def watched(name: str):
        original = getattr(method.teacher, name)

        def forward(x: torch.Tensor):
            modes.append((name, method.teacher.decoder.training))
            return original(x)

        return forward

    for name in ("forward", "logits_and_representation"):
        monkeypatch.setattr(method.teacher, name, watched(name))
    before = norms(method.teacher)[0].running_mean.clone()
    method.step(batch)
    assert modes == [("forward", False), ("logits_and_representation", True)]
    assert {int(m.num_batches_tracked) for m in norms(method.teacher)} == {1}  # once, by the train pass
    assert not torch.equal(norms(method.teacher)[0].running_mean, before)
    assert not any(m.training for m in method.teacher.modules()) and method.student.training


def test_the_eval_pass_repeats_and_the_train_pass_drops() -> None:
    method, x = u2pl(network=dropping), torch.randn(2, 3, 32, 40)
    assert torch.equal(method.teacher_logits(x), method.teacher_logits(x))
    method.teacher.train()
    with torch.no_grad():
        one, two = method.teacher.logits_and_representation(x), method.teacher.logits_and_representation(x)
    assert not torch.equal(one[0], two[0]) and not torch.equal(one[1], two[1])


def test_in_the_warm_up_only_labeled_images_count() -> None:
    method, batch = u2pl(warmup=0.5), make_batch(n_strong=1)
    before = {k: v.clone() for k, v in method.teacher.state_dict().items()}
    out = method.step(batch)
    assert out.terms["loss_unsup"].item() == out.terms["loss_contrast"].item() == 0.0
    assert out.loss.item() == out.terms["loss_sup"].item() and out.pseudo is None
    out.loss.backward()
    assert all(p.grad is not None for p in method.student.parameters())  # the head as well: for several processes
    moved = {k for k, v in method.teacher.state_dict().items() if not torch.equal(v, before[k])}
    assert moved and all("running" in k or "num_batches" in k for k in moved)
    method.steps_done = 40
    assert method.step(batch).terms["loss_unsup"].item() > 0


def test_the_contrast_reaches_head_and_trunk_but_not_the_classifier() -> None:
    method, batch = u2pl(), make_batch(n_strong=1)
    for _ in range(2):
        loss = method.step(batch).terms["loss_contrast"]
    assert loss.item() > 0
    loss.backward()
    reached = {n for n, p in method.student.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0}
    assert any(n.startswith("representation.") for n in reached) and any(n.startswith("encoder.") for n in reached)
    assert not any(n.startswith(("classifier.", "decoder.refine.")) for n in reached)


@pytest.mark.parametrize("labels", [[3], []])
def test_one_class_or_none_gives_no_contrast_and_finite_gradients(labels: list[int]) -> None:
    method, batch = u2pl(), make_batch(n_strong=1)
    batch.labels.fill_(labels[0] if labels else IGNORE)
    batch.unlabeled.padded[:] = True
    out = method.step(batch)
    out.loss.backward()
    assert out.terms["loss_contrast"].item() == 0.0
    assert all(p.grad is not None and p.grad.isfinite().all() for p in method.student.parameters())


def test_ohem_with_few_valid_pixels_is_plain_cross_entropy() -> None:
    batch = make_batch(n_strong=1)
    plain, hard = u2pl(warmup=1.0), u2pl(warmup=1.0)
    hard.sup_loss = OHEM(min_kept=10**6)
    assert plain.step(batch).loss.item() == pytest.approx(hard.step(batch).loss.item(), rel=1e-6)


def test_bfloat16_is_near_and_finite() -> None:
    batch = make_batch(n_strong=1)
    values = []
    for enabled in (False, True):
        method = u2pl()
        torch.manual_seed(3)
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            out = method.step(batch)
        out.loss.backward()
        assert all(p.grad.isfinite().all() for p in method.student.parameters())
        values.append([out.terms[k].item() for k in ("loss_sup", "loss_unsup")])
    assert values[1] == pytest.approx(values[0], rel=0.03)


# -- processes ------------------------------------------------------------------------------------------------


def gradients(rank: int, divide: bool) -> list[torch.Tensor]:
    method = u2pl(contrast_weight=1.0, divide_by_ranks=divide)
    torch.manual_seed(rank + 5)
    batch = make_batch(n_strong=1)
    out = method.step(batch)
    out.loss = out.loss - out.terms["loss_sup"] - out.terms["loss_unsup"]
    return [
        *torch.autograd.grad(out.loss, list(method.student.representation.parameters())),
        method.contrast.queues.vectors,
    ]


@pytest.mark.ddp
def test_dividing_by_the_number_of_processes_halves_the_gradient_of_two() -> None:
    clean_runs, released = two_processes(gradients, False), two_processes(gradients, True)
    for one, half in zip(clean_runs, released):
        for a, b in zip(one[:-1], half[:-1]):
            torch.testing.assert_close(b, a / 2)
        assert one[0].abs().sum() > 0
    assert torch.equal(clean_runs[0][-1], clean_runs[1][-1]) and clean_runs[0][-1].abs().sum() > 0


def test_wrong_values_are_named() -> None:
    with pytest.raises(ValueError, match=r"^anchor_entropy=all: "):
        u2pl(anchor_entropy="all")
    with pytest.raises(ValueError, match=r"^warmup=2\.0: allowed are numbers from 0 to 1"):
        u2pl(warmup=2.0)
