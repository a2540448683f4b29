"""The numeric tests of the specification of MKD of the whole step; the others are in tests/ops and tests/data."""

from __future__ import annotations

import copy
import math
from collections import defaultdict
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from semiseg.config import compose_config
from semiseg.config.settings import read_settings
from semiseg.data.batch import SemiBatch, Views
from semiseg.methods.base import Parts
from semiseg.methods.branch import AUGMENTED
from semiseg.methods.mkd import MKD
from semiseg.models import tiny
from semiseg.models.decoders.base import Decoder
from semiseg.models.encoders import Encoder
from semiseg.models.segmentor import Segmentor
from semiseg.ops.ema import Ema, EmaUpdater
from semiseg.ops.losses import cross_entropy
from semiseg.ops.mixing import box_mask
from semiseg.ops.schedules import WarmupDecay
from semiseg.training.assemble import assemble_method
from support.helpers import CLASSES, SIZE, make_batch, make_parts, two_processes

C = len(CLASSES)
NETWORKS = ("student", "student_b", "teacher", "teacher_b")
XOR3 = [[0, 0, 16, 20], [8, 12, 24, 32], [20, 4, 28, 12]]  # on a grid of 4, the first two overlap


class PointEncoder(Encoder):
    """The mean of every 4x4 pixels, and a 1x1 convolution."""

    def __init__(self, size_multiple: int = 1) -> None:
        super().__init__((6,), (4,), size_multiple)
        self.conv = nn.Conv2d(3, 6, 1)

    def forward(self, x: Tensor) -> list[Tensor]:
        return [self.conv(F.avg_pool2d(x, 4))]


class PointDecoder(Decoder):
    def __init__(self) -> None:
        super().__init__(context_channels=6, join_channels=6, out_channels=6, align_corners=False)
        self.refine = nn.Sequential(nn.Conv2d(6, 6, 1), nn.ReLU())

    def join(self, features: list[Tensor], context: Tensor) -> Tensor:
        return context


def point_parts(size_multiple: int = 1) -> Parts:
    """Networks without BatchNorm whose maps depend on one 4x4 block of the image alone."""
    return Parts(network=lambda: Segmentor(PointEncoder(size_multiple), PointDecoder(), C), classes=CLASSES)


def make_mkd(parts: Parts | None = None, **kwargs) -> MKD:
    """Half-way through a run, with four networks that disagree."""
    ema = Ema(decay=WarmupDecay(max_decay=0.6), buffers="keep", when="before_step")
    method = MKD(parts or make_parts(), ema=ema, **kwargs)
    method.steps_done, method.max_steps = 49, 100
    for teacher in (method.teacher, method.teacher_b):
        for p in teacher.parameters():
            p.add_(0.2 * p.std(unbiased=False) * torch.randn_like(p))
    for name in NETWORKS:  # as confident as networks are half-way
        getattr(method, name).classifier.weight.data.mul_(4)
    return method


def mkd_batch(n_labeled: int = 2, n_unlabeled: int = 2) -> SemiBatch:
    """With three boxes in every image."""
    batch = make_batch(n_labeled, n_unlabeled, n_strong=1)
    batch.unlabeled.boxes = torch.tensor(XOR3).expand(1, n_unlabeled, 3, 4).clone()
    batch.unlabeled.boxes[..., 1] += 4 * torch.arange(n_unlabeled)[:, None]
    batch.unlabeled.boxes[..., 3] += 4 * torch.arange(n_unlabeled)[:, None]
    return batch


def close(a: Tensor | float, b: Tensor | float, rel: float = 1e-5) -> bool:
    return float(torch.as_tensor(a).detach()) == pytest.approx(float(torch.as_tensor(b).detach()), rel=rel)


def gradients(method: MKD) -> dict[str, Tensor]:
    return {n: p.grad.clone() for n, p in method.named_parameters() if p.requires_grad}


# -- the whole step against the reference, written literally --------------------------------------------------


class Oracle:
    """Logits and features side by side at the decoder's size, bilinear halving, loops over pixels.

    Remembers every feature it has seen, and measures the variance of all of them anew.
    """

    def __init__(self, method: MKD) -> None:
        self.method = copy.deepcopy(method)
        self.seen: dict[tuple[str, int], list[Tensor]] = defaultdict(list)

    def step(self, batch: SemiBatch) -> dict[str, Tensor]:
        m, u = self.method, batch.unlabeled
        n_l, n_u = len(batch.labeled), len(u.weak)
        own = box_mask(u.boxes[0], *batch.labeled.shape[-2:])
        mixed = torch.stack([torch.where(own[i], u.strong[0, i], u.strong[0, (i + 1) % n_u]) for i in range(n_u)])
        plain, shifted, loss_sup = {}, {}, 0.0
        for name in NETWORKS:
            network, student = getattr(m, name), name.startswith("student")
            f_l = network.decode(network.features(batch.labeled))
            f_u = network.decode(network.features(mixed if student else u.weak))
            z_l, z_u = network.classifier(f_l), network.classifier(f_u)
            if student:
                full = F.interpolate(z_l, batch.labels.shape[-2:], mode="bilinear")
                loss_sup = loss_sup + F.cross_entropy(full, batch.labels, ignore_index=255)
            else:
                f_u, z_u = self.cutmix(own, f_u), self.cutmix(own, z_u)
            if m.half_resolution:
                f_l, f_u, z_l, z_u = (F.interpolate(x, scale_factor=0.5, mode="bilinear") for x in (f_l, f_u, z_l, z_u))
            labels = F.interpolate(batch.labels[:, None].float(), z_l.shape[-2:])[:, 0].long()
            plain[name] = torch.cat([z_l, z_u])
            shifted[name] = torch.cat([self.shift(name, f_l, z_l, labels), self.shift(name, f_u, z_u, z_u.argmax(1))])
        labels = {name: z.argmax(1) for name, z in shifted.items()}
        flipped = [labels[name] != plain[name].argmax(1) for name in ("teacher", "teacher_b")]
        for name in ("teacher", "teacher_b"):
            labels[name][plain[name].softmax(1).amax(1) < m.conf_threshold] = 255
        first, second = ("teacher_b", "teacher") if m.cross_teacher else ("teacher", "teacher_b")
        loss_teacher = self.ce(shifted["student"], labels[first]) + self.ce(shifted["student_b"], labels[second])
        loss_students = self.ce(shifted["student"], labels["student_b"]) + self.ce(
            shifted["student_b"], labels["student"]
        )
        assert n_l + n_u == len(shifted["student"])
        return {
            "loss": loss_sup + m.teacher_weight * loss_teacher + m.student_weight * loss_students,
            "loss_sup": loss_sup,
            "loss_teacher": loss_teacher,
            "loss_students": loss_students,
            "flipped_ratio": torch.cat(flipped).float().mean(),
        }

    def cutmix(self, own: Tensor, x: Tensor) -> Tensor:
        mask = F.interpolate(own[:, None].float(), x.shape[-2:])
        return torch.stack([mask[i] * x[i] + (1 - mask[i]) * x[(i + 1) % len(x)] for i in range(len(x))])

    def shift(self, name: str, f: Tensor, z: Tensor, labels: Tensor) -> Tensor:
        if name not in AUGMENTED["both"] or name not in self.method.statistics:
            return z
        f, places = f.detach(), [(b, y, x) for b in range(len(z)) for y in range(z.shape[2]) for x in range(z.shape[3])]
        for b, y, x in places:
            if labels[b, y, x] != 255:
                self.seen[name, int(labels[b, y, x])].append(f[b, :, y, x])
        variance = {c: torch.stack(self.seen[name, c]).var(0, unbiased=False) for c in range(C) if self.seen[name, c]}
        weight = getattr(self.method, name).classifier.weight.detach().flatten(1)
        t = (self.method.steps_done + 1) / self.method.max_steps
        ramp = t if self.method.ramp == "linear" else (1 - math.cos(math.pi * t)) / 2
        shift = torch.zeros_like(z)
        for b, y, x in places:
            label = int(labels[b, y, x])
            for j in range(C) if label != 255 else ():
                sigma2 = self.method.strength * ramp * ((weight[j] - weight[label]) ** 2 * variance[label]).sum()
                shift[b, j, y, x] = sigma2 / 2
        return z + shift

    def ce(self, z: Tensor, labels: Tensor) -> Tensor:
        log_prob = z.log_softmax(1)
        places = [tuple(p) for p in (labels != 255).nonzero().tolist()]
        losses = [-log_prob[b, labels[b, y, x], y, x] for b, y, x in places]
        return torch.stack(losses).mean() if losses else 0 * z.sum()


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"augment": "students", "ramp": "linear"},
        {"augment": "teachers", "cross_teacher": False},
        {"augment": "none", "conf_threshold": 0.55, "teacher_weight": 0.7, "student_weight": 0.3},
        {"half_resolution": False, "conf_threshold": 0.55},
    ],
    ids=str,
)
def test_two_steps_with_gradients_against_the_oracle(options: dict) -> None:
    method = make_mkd(**options)
    oracle = Oracle(method)
    for n_labeled, n_unlabeled in ((2, 3), (1, 2)):
        batch = mkd_batch(n_labeled, n_unlabeled)
        method.zero_grad(), oracle.method.zero_grad()
        out, expected = method.step(batch), oracle.step(batch)
        for name, value in out.terms.items():
            assert close(value, expected[name]), name
        assert (out.terms["flipped_ratio"] > 0.1) == (options.get("augment", "both") in ("both", "teachers"))
        assert close(out.loss, expected["loss"])
        out.loss.backward(), expected["loss"].backward()
        reference = gradients(oracle.method)
        for name, got in gradients(method).items():
            largest = reference[name].abs().max()
            assert torch.allclose(got, reference[name], rtol=1e-4, atol=1e-5 * float(largest) + 1e-7), name
        method.steps_done = oracle.method.steps_done = method.steps_done + 1
    # Each network has seen what the oracle has seen: no pass more, no pass less, in the same mode.
    for (name, a), b in zip(method.student.named_buffers(), oracle.method.student.buffers()):
        assert torch.allclose(a.float(), b.float()), name


# -- 1, 7: constants ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ramp", "it", "expected"),
    [
        ("cosine", 1, 0.00037008),
        ("cosine", 30, 0.309161),
        ("cosine", 50, 0.75),
        ("cosine", 100, 1.5),
        ("cosine", 101, 1.5),
        ("linear", 1, 0.015),
        ("linear", 50, 0.75),
        ("linear", 100, 1.5),
    ],
)
def test_strength_over_the_run(ramp: str, it: int, expected: float) -> None:
    method = make_mkd(ramp=ramp)
    method.steps_done, method.max_steps = it - 1, 100
    assert method.strength_now == pytest.approx(expected, rel=1e-5)


def test_equal_logits_cost_seven_times_ln_c() -> None:
    method = make_mkd()
    for name in NETWORKS:
        nn.init.zeros_(getattr(method, name).classifier.weight), nn.init.zeros_(getattr(method, name).classifier.bias)
    out = method.step(mkd_batch())
    assert close(out.terms["loss_sup"], 2 * math.log(C))
    assert close(1.5 * out.terms["loss_teacher"] + out.terms["loss_students"], 5 * math.log(C))
    assert close(out.loss, 7 * math.log(C))


# -- 6: teachers ----------------------------------------------------------------------------------------------


def configured() -> MKD:
    """As ``method=mkd`` makes it."""
    return assemble_method(read_settings(compose_config(["method=mkd", "model.width=8"])), CLASSES)


def test_teachers_follow_before_the_step_with_a_decay_of_at_most_0_6() -> None:
    method = configured()
    pairs = method.teacher_pairs()
    assert [(p.teacher, p.student) for p in pairs] == [
        (method.teacher, method.student),
        (method.teacher_b, method.student_b),
    ]
    for pair in pairs:
        assert pair.ema.when == "before_step"
        updater, value = EmaUpdater(pair), next(iter(pair.teacher.parameters()))
        for done, expected in enumerate((1.0, 1.5, 2.1, 2.86)):
            for p in pair.student.parameters():
                nn.init.constant_(p, done + 1.0)
            updater.update(done)
            assert torch.allclose(value, torch.tensor(expected))


def test_after_the_first_update_a_teacher_is_the_student_bit_for_bit() -> None:
    method = configured()
    for pair in method.teacher_pairs():
        for p in pair.teacher.parameters():
            p.fill_(7.0)
        for p in pair.student.parameters():
            nn.init.normal_(p)
        EmaUpdater(pair).update(0)
        assert all(torch.equal(a, b) for a, b in zip(pair.teacher.parameters(), pair.student.parameters()))


def test_batchnorm_statistics_of_teachers_are_their_own() -> None:
    method = configured()
    first = copy.deepcopy(dict(method.teacher.named_buffers()))
    method.step(mkd_batch())
    collected = copy.deepcopy(dict(method.teacher.named_buffers()))
    EmaUpdater(method.teacher_pairs()[0]).update(5)
    means = [name for name in first if name.endswith("running_mean")]
    for name in means:
        assert not torch.equal(collected[name], first[name])
        assert torch.equal(method.teacher.get_buffer(name), collected[name])
    assert any(not torch.equal(collected[name], method.student.get_buffer(name)) for name in means)


def test_teachers_start_as_copies_of_their_students() -> None:
    for pair in configured().teacher_pairs():
        teacher, student = pair.teacher.state_dict(), pair.student.state_dict()
        assert all(torch.equal(teacher[name], student[name]) for name in student)


def test_every_network_is_in_train_mode_and_sees_two_batches_of_its_own() -> None:
    method, batch = make_mkd().eval(), mkd_batch()
    assert not any(m.training for m in method.modules())
    method.train()
    assert all(m.training for m in method.modules())
    alone = {name: copy.deepcopy(getattr(method, name)) for name in NETWORKS}
    method.step(batch)
    u = batch.unlabeled
    own = box_mask(u.boxes[0], *SIZE).unsqueeze(1)
    mixed = torch.where(own, u.strong[0], u.strong[0].roll(-1, 0))
    for name, network in alone.items():
        network(batch.labeled), network(mixed if "student" in name else u.weak)
        for key, buffer in network.named_buffers():
            assert torch.allclose(buffer.float(), getattr(method, name).get_buffer(key).float()), (name, key)
            assert not key.endswith("num_batches_tracked") or buffer == 2


def test_teachers_start_in_train_mode_and_obey_eval() -> None:
    method = configured()
    assert method.teacher.training and method.teacher_b.training
    assert not method.eval().teacher_b.training


def test_momentum_of_batchnorm_is_the_networks_own_or_the_one_asked_for() -> None:
    def momenta(method: MKD) -> set[float]:
        return {m.momentum for m in method.modules() if isinstance(m, nn.BatchNorm2d)}

    assert momenta(make_mkd()) == {0.1}
    assert momenta(make_mkd(bn_momentum=0.001)) == {0.001}
    assert momenta(MKD(make_parts(), ema=Ema(), bn_momentum=0.0)) == {0.0}


def test_the_first_student_is_reported() -> None:
    method = make_mkd()
    assert list(method.evaluated()) == ["teacher", "student"]
    assert method.evaluated()["student"] is method.student and method.evaluated()["teacher"] is method.teacher
    assert method.trained() == [method.student, method.student_b]
    a, b = method.student.state_dict(), method.student_b.state_dict()
    assert not torch.equal(a["classifier.weight"], b["classifier.weight"])  # newly initialized


# -- 8, 9: who teaches whom -----------------------------------------------------------------------------------


def test_swapping_the_two_branches_leaves_the_loss() -> None:
    method, batch = make_mkd(), mkd_batch()
    swapped = copy.deepcopy(method)
    swapped.student, swapped.student_b = swapped.student_b, swapped.student
    swapped.teacher, swapped.teacher_b = swapped.teacher_b, swapped.teacher
    assert close(method.step(batch).loss, swapped.step(batch).loss, rel=1e-6)


@pytest.mark.parametrize("cross_teacher", [True, False])
@pytest.mark.parametrize("teacher", ["teacher", "teacher_b"])
def test_a_teacher_moves_one_student_only(teacher: str, cross_teacher: bool) -> None:
    method, batch = make_mkd(cross_teacher=cross_teacher), mkd_batch()
    other = copy.deepcopy(method)
    nn.init.normal_(getattr(other, teacher).classifier.weight)
    method.step(batch).loss.backward(), other.step(batch).loss.backward()
    a, b = gradients(method), gradients(other)
    changed = {name.split(".")[0] for name in a if not torch.equal(a[name], b[name])}
    assert changed == {"student_b" if (teacher == "teacher") == cross_teacher else "student"}


def test_each_cross_entropy_moves_one_student_and_nothing_else(monkeypatch) -> None:
    method, made = make_mkd(), []
    monkeypatch.setattr(
        "semiseg.methods.mkd.cross_entropy", lambda *args: made.append(cross_entropy(*args)) or made[-1]
    )
    method.step(mkd_batch())
    assert not any(p.requires_grad for name in ("teacher", "teacher_b") for p in getattr(method, name).parameters())
    assert len(made) == 4
    for i, loss in enumerate(made):  # taught by teachers, then by students; the first student, then the second
        learner, teacher = ("student", "student_b") if i % 2 == 0 else ("student_b", "student")
        for name in (learner, teacher):
            parameters = list(getattr(method, name).parameters())
            grads = torch.autograd.grad(loss, parameters, retain_graph=True, allow_unused=True)
            assert all((g is None) == (name == teacher) for g in grads)


def test_every_trained_parameter_has_a_gradient_when_nothing_is_learned() -> None:
    method, batch = make_mkd(conf_threshold=1.0), mkd_batch()
    batch.labels.fill_(255)
    out = method.step(batch)
    assert out.terms["loss_sup"] == 0 and out.terms["loss_teacher"] == 0 and not out.keep.any()
    out.loss.backward()
    assert all(p.grad is not None for network in method.trained() for p in network.parameters())
    for name in ("teacher", "teacher_b"):
        assert all(p.grad is None for p in getattr(method, name).parameters())


# -- 10: mixing -----------------------------------------------------------------------------------------------


def watched(method: MKD, batch: SemiBatch) -> dict[str, tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]]:
    """The maps of labeled and unlabeled images of each network, and their shifted and plain logits."""
    seen, logits = {}, method.logits
    names = {id(getattr(method, name)): name for name in NETWORKS}

    def watch(network: Segmentor, f: tuple[Tensor, Tensor], labels: Tensor, statistics: Any) -> tuple[Tensor, Tensor]:
        name = names[id(network)]
        seen[name] = (f, logits(network, f, labels, statistics))
        return seen[name][1]

    method.logits = watch
    method.step(batch)
    del method.logits
    return seen


@pytest.mark.parametrize("size_multiple", [1, 16])
def test_mixing_maps_of_the_teacher_is_mixing_its_images(size_multiple: int) -> None:
    method, batch = make_mkd(point_parts(size_multiple)), mkd_batch(2, 3)
    if size_multiple > 1:  # the network pads what it gets
        batch.labeled, batch.labels = batch.labeled[..., :28, :36], batch.labels[..., :28, :36]
        batch.unlabeled.weak, batch.unlabeled.strong = (
            x[..., :28, :36] for x in (batch.unlabeled.weak, batch.unlabeled.strong)
        )
        batch.unlabeled.padded = batch.unlabeled.padded[..., :28, :36]
    u, (h, w) = batch.unlabeled, batch.labeled.shape[-2:]
    seen = watched(method, batch)
    mixed = torch.empty_like(u.weak)
    for i in range(3):
        for y in range(h):
            for x in range(w):
                inside = sum(y0 <= y < y1 and x0 <= x < x1 for y0, x0, y1, x1 in u.boxes[0, i].tolist()) % 2 == 1
                mixed[i, :, y, x] = u.weak[i if inside else (i + 1) % 3, :, y, x]
    for name in ("teacher", "teacher_b"):
        network = getattr(method, name)
        expected = network.decode(network.features(mixed))[..., : h // 4, : w // 4]
        assert torch.allclose(seen[name][0][1][..., : h // 4, : w // 4], expected, rtol=1e-5, atol=1e-6)
    assert not torch.equal(mixed, u.weak)
    # Neither ignored pixels nor what the network pads count as labeled.
    map_h, map_w = seen["teacher"][1][0].shape[-2:]
    rows, columns = ([i * 8 for i in range(n)] for n in (map_h, map_w))
    labeled = sum(int(batch.labels[i, y, x] != 255) for i in range(2) for y in rows for x in columns if x < w)
    assert all(s.count.sum() == labeled + 3 * map_h * map_w for s in method.statistics.values())


def test_a_single_unlabeled_image_is_its_own_partner() -> None:
    method, batch = make_mkd(point_parts()), mkd_batch(1, 1)
    seen = watched(method, batch)
    expected = method.student.decode(method.student.features(batch.unlabeled.strong[0]))
    assert torch.allclose(seen["student"][0][1], expected)


# -- 12, 13: statistics ---------------------------------------------------------------------------------------


def test_with_all_labels_ignored_only_the_unlabeled_part_is_counted() -> None:
    method, batch = make_mkd(), mkd_batch(3, 2)
    batch.labels.fill_(255)
    out = method.step(batch)
    assert out.terms["loss_sup"] == 0 and math.isfinite(out.loss.item())
    assert out.terms["loss_teacher"] > 0 and out.terms["loss_students"] > 0
    n_pixels = 2 * (SIZE[0] // 4) * (SIZE[1] // 4)
    assert all(s.count.sum() == n_pixels for s in method.statistics.values())


def test_the_labeled_shift_does_not_depend_on_the_unlabeled_part() -> None:
    method, batch = make_mkd(), mkd_batch()
    other = copy.deepcopy(method)
    first = watched(method, batch)
    batch.unlabeled.weak, batch.unlabeled.strong = 3 - batch.unlabeled.weak, 3 - batch.unlabeled.strong
    second = watched(other, batch)
    for name in NETWORKS:
        (_, (shifted, plain)), (_, (shifted_2, plain_2)) = first[name], second[name]
        assert torch.equal(shifted[:2], shifted_2[:2]) and not torch.equal(shifted[2:], shifted_2[2:])
        assert torch.equal(plain[:2], plain_2[:2]) and not torch.equal(shifted[:2], plain[:2])


@pytest.mark.parametrize("augment", list(AUGMENTED))
def test_only_the_networks_asked_for_are_shifted(augment: str) -> None:
    method = make_mkd(augment=augment)
    seen = watched(method, mkd_batch())
    assert {n for n, (_, (shifted, plain)) in seen.items() if not torch.equal(shifted, plain)} == set(method.statistics)
    assert set(method.statistics) == {
        "both": set(NETWORKS), "students": {"student", "student_b"}, "teachers": {"teacher", "teacher_b"}, "none": set()
    }[augment]  # fmt: skip


# -- degenerate cases, precision ------------------------------------------------------------------------------


@pytest.mark.parametrize(("n_labeled", "n_unlabeled"), [(1, 1), (1, 3), (3, 1)])
@pytest.mark.parametrize("size", [(32, 40), (29, 35), (17, 19)])
def test_any_number_of_images_of_any_size(n_labeled: int, n_unlabeled: int, size: tuple[int, int]) -> None:
    method, batch = make_mkd(), mkd_batch(n_labeled, n_unlabeled)
    h, w = size
    batch.labeled, batch.labels = batch.labeled[..., :h, :w], batch.labels[..., :h, :w]
    u = batch.unlabeled
    u.weak, u.strong, u.padded = u.weak[..., :h, :w], u.strong[..., :h, :w], u.padded[..., :h, :w]
    out = method.step(batch)
    out.loss.backward()
    assert math.isfinite(out.loss.item()) and out.keep.shape == u.padded.shape == out.pseudo.labels.shape
    assert all(g.isfinite().all() for g in gradients(method).values())


def test_two_classes_one_of_them_absent() -> None:
    method = make_mkd(Parts(network=lambda: tiny(2, width=8), classes=("ground", "thing")))
    batch = mkd_batch()
    batch.labels[batch.labels != 255] = 0
    loss = method.step(batch).loss
    loss.backward()
    assert math.isfinite(loss.item())


def test_bfloat16_autocast_stays_close() -> None:
    method, batch = make_mkd(), mkd_batch()
    half = copy.deepcopy(method)
    out = method.step(batch)
    with torch.autocast("cpu", torch.bfloat16):
        low = half.step(batch)
    low.loss.backward()
    assert low.loss.dtype == low.terms["loss_students"].dtype == torch.float32
    assert all(close(low.terms[k], out.terms[k], rel=0.03) for k in ("loss_sup", "loss_teacher", "loss_students"))
    assert all(g.isfinite().all() for g in gradients(half).values())
    assert all(s.variance.dtype == torch.float32 for s in half.statistics.values())


def one_rank(rank: int, method: MKD, batches: list[SemiBatch]) -> dict[str, Tensor]:
    out = method.step(batches[rank])
    return {"loss": out.loss.detach(), **method.statistics.state_dict()}


@pytest.mark.ddp
def test_two_processes_with_common_statistics_are_one_with_all_images() -> None:
    method, joined = make_mkd(point_parts(), sync_stats=True), mkd_batch(2, 2)
    joined.unlabeled.boxes = torch.tensor([0, 0, *SIZE]).expand(1, 2, 1, 4)  # nothing comes from the partner
    batches = [
        SemiBatch(joined.labeled[i : i + 1], joined.labels[i : i + 1], ["l"], one_of(joined.unlabeled, i))
        for i in range(2)
    ]
    ranks = two_processes(one_rank, copy.deepcopy(method), batches)
    loss, expected = method.step(joined).loss, method.statistics.state_dict()
    assert close((ranks[0]["loss"] + ranks[1]["loss"]) / 2, loss)
    for got in ranks:
        assert all(torch.allclose(got[k], expected[k], rtol=1e-5, atol=1e-7) for k in expected)


def one_of(u: Views, i: int) -> Views:
    """The i-th image alone."""
    rows = slice(i, i + 1)
    return Views(u.weak[rows], u.strong[:, rows], u.padded[rows], u.boxes[:, rows], u.class_scores[:, rows], ["u"])


def test_pseudo_labels_are_those_of_the_teacher_on_the_weak_view() -> None:
    method, batch = make_mkd(point_parts(), conf_threshold=0.4), mkd_batch()
    out, u = method.step(batch), batch.unlabeled
    logits = method.teacher.classifier(method.teacher.decode(method.teacher.features(u.weak)))
    prob = F.interpolate(logits, scale_factor=0.5, mode="bilinear").softmax(1)
    confidence, labels = (F.interpolate(x[:, None].float(), SIZE)[:, 0] for x in prob.max(1))
    assert torch.equal(out.pseudo.labels, labels.long()) and torch.allclose(out.pseudo.confidence, confidence)
    assert torch.equal(out.keep, (confidence >= 0.4) & ~u.padded) and 0 < out.keep.float().mean() < 1


@pytest.mark.parametrize(
    ("key", "value"),
    [("augment", "all"), ("ramp", "sine"), ("conf_threshold", 1.5), ("strength", -1.0), ("bn_momentum", 2.0)],
)
def test_a_wrong_value_is_named(key: str, value: object) -> None:
    with pytest.raises(ValueError, match=rf"^{key}=.*: .*allowed"):
        make_mkd(**{key: value})
