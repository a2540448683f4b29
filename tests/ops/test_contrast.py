"""The properties of ``methods/u2pl.md``, section 15, on small random tensors against plain loops."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from semiseg.ops import contrast
from semiseg.ops.contrast import (
    PixelContrast,
    Pixels,
    entropy,
    negatives_paper,
    negatives_released,
    percentiles,
    pick,
    prototypes,
    random_anchors,
    random_members,
)
from semiseg.ops.info_nce import AT_ONCE, info_nce
from semiseg.ops.queue import ClassQueues

N, H, W, D = 4, 5, 6, 8


def random_pixels(n_classes: int, labels: list[int] | None = None, *, seed: int = 0) -> Pixels:
    """Two labeled and two unlabeled maps; ``labels``: the classes that occur."""
    torch.manual_seed(seed)
    size = N * H * W
    labeled = torch.arange(size) < size // 2
    allowed = torch.tensor(labels if labels is not None else [*range(n_classes), n_classes])
    drawn = allowed[torch.randint(len(allowed), (size,))]
    exists = drawn < n_classes
    low = exists & (labeled | (torch.rand(size) < 0.8))
    return Pixels(drawn, torch.randn(size, n_classes).mul(2).softmax(1), low, exists & (labeled | ~low), labeled)


# -- entropy and percentiles ----------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [1, 2, 1000])
def test_percentiles_equal_those_of_numpy(n: int) -> None:
    torch.manual_seed(n)
    values, valid = torch.rand(n + 7), torch.zeros(n + 7, dtype=torch.bool)
    valid[torch.randperm(n + 7)[:n]] = True
    percents = (0.0, 19.75, 80.0, 99.75, 100.0)
    got = torch.stack(percentiles(values.view(1, -1), valid.view(1, -1), percents))
    np.testing.assert_allclose(got, np.percentile(values[valid].numpy(), percents), atol=1e-6)


def test_percentiles_of_nothing_are_infinite() -> None:
    low, high = percentiles(torch.rand(3, 4), torch.zeros(3, 4, dtype=torch.bool), (20, 80))
    assert low == high == torch.inf


def test_entropy_of_a_uniform_and_a_sure_pixel() -> None:
    prob = torch.tensor([[0.25] * 4, [1.0, 0, 0, 0]]).t()[None]
    assert entropy(prob)[0].tolist() == pytest.approx([math.log(4), 0.0], abs=1e-6)


# -- which pixel is a negative of which class -----------------------------------------------------------------


def slow_negatives(pixels: Pixels, rule: str, first: int, last: int) -> Tensor:
    n_classes = pixels.prob.shape[1]
    member = torch.zeros_like(pixels.prob, dtype=torch.bool)
    for j, prob in enumerate(pixels.prob):
        y, uncertain = pixels.labels[j].item(), pixels.uncertain[j].item()
        if y == n_classes:
            continue
        order = sorted(range(n_classes), key=lambda c: -prob[c].item())
        for c in range(n_classes):
            rank = order.index(c)
            if rule == "released":
                member[j, c] = not pixels.labeled[j] and y == c and uncertain and first <= rank < last
            elif pixels.labeled[j]:
                member[j, c] = y != c and rank < first
            else:
                member[j, c] = uncertain and first <= rank < last
    return member


@pytest.mark.parametrize(
    ("n_classes", "ranks"), [(21, (3, 20)), (19, (3, 20)), (3, (1, 20)), (2, (1, 20)), (6, (0, 3))]
)
def test_negatives_against_a_loop(n_classes: int, ranks: tuple[int, int]) -> None:
    pixels = random_pixels(n_classes)
    assert torch.equal(negatives_paper(pixels, *ranks), slow_negatives(pixels, "paper", *ranks))
    assert torch.equal(negatives_released(pixels, *ranks), slow_negatives(pixels, "released", *ranks))


@pytest.mark.parametrize(("n_classes", "pairs"), [(21, 17), (19, 16)])
def test_numbers_of_pairs(n_classes: int, pairs: int) -> None:
    pixels = random_pixels(n_classes)
    paper, released = (rule(pixels, 3, 20) for rule in (negatives_paper, negatives_released))
    exists, uncertain = pixels.labels < n_classes, ~pixels.labeled & pixels.uncertain
    assert (paper[uncertain].sum(1) == pairs).all() and not paper[~pixels.labeled & ~pixels.uncertain].any()
    top = pixels.prob.topk(3, dim=1).indices
    inside = (top == pixels.labels[:, None]).any(1)
    real = pixels.labeled & exists
    assert torch.equal(paper[real].sum(1), 3 - inside[real].long()) and not paper[~exists].any()
    assert not released[pixels.labeled].any() and (released.sum(1) <= 1).all()
    own = released.any(1)
    assert own.any() and torch.equal(released[own].long().argmax(1), pixels.labels[own])


def test_the_rank_of_the_own_class_by_counting_equals_that_by_sorting() -> None:
    pixels = random_pixels(9, list(range(9)))
    counted = (pixels.prob > pixels.label_prob[:, None]).sum(1)
    ranks = pixels.prob.argsort(1, descending=True).argsort(1)
    assert torch.equal(counted, ranks.gather(1, pixels.labels[:, None]).squeeze(1))


def test_with_two_classes_and_the_default_ranks_there_are_none() -> None:
    pixels = random_pixels(2, [0, 1])
    assert not negatives_paper(pixels, 3, 20)[~pixels.labeled].any()
    assert not negatives_released(pixels, 3, 20).any()


# -- draws, prototypes ----------------------------------------------------------------------------------------


def test_random_members_are_distinct_members_of_their_class() -> None:
    member = torch.rand(40, 5) < torch.tensor([0.0, 0.05, 0.5, 1.0, 0.3])
    numbers, exist = random_members(member, 8)
    assert numbers.shape == exist.shape == (5, 8)
    assert torch.equal(exist.sum(1), member.sum(0).clamp(max=8))
    assert torch.equal(exist, exist.sort(dim=1, descending=True).values)
    for c in range(5):
        drawn = numbers[c][exist[c]].tolist()
        assert len(set(drawn)) == len(drawn) and all(member[j, c] for j in drawn)
    assert random_members(member, 1000)[0].shape == (5, 40)


def test_anchors_are_candidates_of_their_class_drawn_alike() -> None:
    torch.manual_seed(0)
    labels, candidate = torch.randint(0, 5, (60,)), torch.rand(60) < 0.7  # label 4 is none
    labels[labels == 2] = 1
    anchor, count = random_anchors(labels, candidate, 4, 4000)
    for c in range(4):
        there = [j for j in range(60) if labels[j] == c and candidate[j]]
        assert count[c] == len(there)
        if there:
            assert sorted(set(anchor[c].tolist())) == there
            assert (anchor[c].bincount(minlength=60)[there] / 4000 * len(there) - 1).abs().max() < 0.25
    assert count[2] == 0
    nothing, none = random_anchors(labels, torch.zeros_like(candidate), 4, 3)
    assert not none.any() and (nothing >= 0).all() and (nothing < 60).all()


def test_prototypes_are_means_and_zero_without_pixels() -> None:
    maps, pixels = torch.randn(N, D, H, W), random_pixels(5, [0, 1, 3, 5])
    got = prototypes(maps, pixels.labels, pixels.certain, 5)
    flat = maps.permute(0, 2, 3, 1).reshape(-1, D)
    for c in range(5):
        chosen = [flat[j] for j in range(len(flat)) if pixels.labels[j] == c and pixels.certain[j]]
        expected = torch.stack(chosen).mean(0) if chosen else torch.zeros(D)
        torch.testing.assert_close(got[c], expected, rtol=1e-5, atol=1e-6)


def test_pick_reads_pixels_in_the_order_of_the_maps() -> None:
    maps = torch.randn(N, D, H, W)
    numbers = torch.randint(0, N * H * W, (3, 7))
    flat = maps.permute(0, 2, 3, 1).reshape(-1, D)
    assert torch.equal(pick(maps, numbers), flat[numbers])


# -- InfoNCE --------------------------------------------------------------------------------------------------


def filled(vectors: Tensor) -> ClassQueues:
    """Queues (C, Q, D) that are full."""
    queues = ClassQueues([vectors.shape[1]] * len(vectors), vectors.shape[2])
    queues.push(vectors, torch.ones(vectors.shape[:2], dtype=torch.bool))
    return queues


@pytest.mark.parametrize(
    ("positive", "negative", "n", "value"),
    [
        ([1.0, 0.0], [1.0, 0.0], 50, 3.931826),
        ([1.0, 0.0], [-1.0, 0.0], 50, 0.650126),
        ([1.0, 0.0], [0.0, 1.0], 50, 2.049854),
        ([1.0, 0.0], [1.0, 0.0], 256, 5.549076),
    ],
)
def test_info_nce_constants(positive: list[float], negative: list[float], n: int, value: float) -> None:
    queues = filled(torch.tensor(negative).expand(1, 3, 2))
    anchors = torch.tensor([2.0, 0.0]).expand(1, 4, 2)
    rows = torch.randint(0, 3, (1, 4, n))
    loss = info_nce(anchors, torch.tensor([positive]), queues, rows, 0.5)
    assert loss.tolist() == pytest.approx([value], abs=1e-5)


def slow_info_nce(anchors: Tensor, positives: Tensor, table: Tensor, rows: Tensor, temperature: float) -> Tensor:
    def cosine(a: Tensor, b: Tensor) -> Tensor:
        return (a * b).sum() / (a.norm() * b.norm())

    losses = []
    for c in range(len(anchors)):
        total = 0.0
        for m in range(anchors.shape[1]):
            s0 = (cosine(anchors[c, m], positives[c]) / temperature).exp()
            rest = sum((cosine(anchors[c, m], table[r]) / temperature).exp() for r in rows[c, m])
            total = total - (s0 / (s0 + rest)).log()
        losses.append(total / anchors.shape[1])
    return torch.stack(losses)


def test_info_nce_and_its_gradient_against_a_loop(monkeypatch) -> None:
    monkeypatch.setitem(AT_ONCE, "cpu", 5)  # several pieces, the last one shorter
    torch.manual_seed(0)
    vectors, positives = torch.randn(3, 10, D), torch.randn(3, D)
    queues, rows = filled(vectors), torch.randint(0, 30, (3, 4, 6))
    ours = torch.randn(3, 4, D, requires_grad=True)
    theirs = ours.detach().clone().requires_grad_()
    loss = info_nce(ours, positives, queues, rows, 0.5)
    oracle = slow_info_nce(theirs, positives, vectors.flatten(0, 1), rows, 0.5)
    torch.testing.assert_close(loss, oracle, rtol=1e-5, atol=1e-6)
    weights = torch.tensor([1.0, 0.3, 2.0])
    (loss * weights).sum().backward()
    (oracle * weights).sum().backward()
    torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-5, atol=1e-6)


def test_lengths_do_not_matter() -> None:
    torch.manual_seed(0)
    anchors, positives, vectors = torch.randn(2, 3, D), torch.randn(2, D), torch.randn(2, 10, D)
    rows = torch.randint(0, 20, (2, 3, 5))
    one = info_nce(anchors, positives, filled(vectors), rows, 0.5)
    other = info_nce(0.1 * anchors, 7 * positives, filled(30 * vectors), rows, 0.5)
    torch.testing.assert_close(one, other)


# -- the whole contrast ---------------------------------------------------------------------------------------


def small_contrast(n_classes: int, **kwargs) -> PixelContrast:
    options = {"anchors": 6, "negatives": 5, "queue_size": 40, "first_queue_size": 50, "keys_per_class": 12, "dim": D}
    return PixelContrast(n_classes, **(options | kwargs))


def fill(module: PixelContrast) -> None:
    q = module.queues
    vectors = torch.randn(module.num_classes, q.smallest, module.dim)
    q.push(vectors, torch.ones(vectors.shape[:2], dtype=torch.bool))


def touched(module: PixelContrast, pixels: Pixels) -> tuple[Tensor, Tensor]:
    """The loss, and which pixels (P,) the gradient reaches."""
    student = torch.randn(N, module.dim, H, W, requires_grad=True)
    loss = module(pixels, student, torch.randn(N, module.dim, H, W))
    loss.backward()
    return loss.detach(), student.grad.permute(0, 2, 3, 1).reshape(-1, module.dim).abs().sum(1) > 0


@pytest.mark.parametrize("bug", [False, True])
@pytest.mark.parametrize("positive_set", ["anchors", "certain"])
@pytest.mark.parametrize("rule", ["paper", "released"])
@pytest.mark.parametrize("present", [[0, 1, 2, 3, 4, 5], [0, 2, 5, 6], [3, 4]])
def test_the_loss_against_a_loop(present, rule, positive_set, bug, monkeypatch) -> None:
    """Same draws, everything else by loops: sets, prototypes, validity, the normalizer, the bug."""
    n_classes, pixels = 6, random_pixels(6, present)
    module = small_contrast(n_classes, negative_rule=rule, positive_set=positive_set, class_list_bug=bug, ranks=(1, 5))
    drawn = {}

    def record(name, function):
        def recorded(*args):
            drawn[name] = function(*args)
            return drawn[name]

        return recorded

    monkeypatch.setattr(contrast, "random_anchors", record("anchors", random_anchors))
    monkeypatch.setattr(module.queues, "sample", record("rows", module.queues.sample))
    student, teacher = torch.randn(N, D, H, W, requires_grad=True), torch.randn(N, D, H, W)
    loss = module(pixels, student, teacher)
    grad = torch.autograd.grad(loss, student)[0]

    flat_s, flat_t = (x.permute(0, 2, 3, 1).reshape(-1, D) for x in (student, teacher))
    certain, candidates = {}, {}
    for c in range(n_classes):
        certain[c] = [j for j in range(len(flat_s)) if pixels.labels[j] == c and pixels.certain[j]]
        candidates[c] = [j for j in certain[c] if pixels.prob[j, c] > 0.3]
    valid = [c for c in range(n_classes) if certain[c]]
    lists = list(enumerate(valid)) if bug else [(c, c) for c in valid]  # (class, whose queue)
    total = 0.0 * student.sum()
    for c, queue in lists:
        if len(valid) < 2 or not candidates[c] or module.queues.count[queue] == 0:
            continue
        chosen = candidates[c] if positive_set == "anchors" else certain[c]
        positive = torch.stack([flat_t[j] for j in chosen]).mean(0)
        anchors = drawn["anchors"][0][c]
        assert all(j in candidates[c] for j in anchors.tolist())
        begin = module.queues.start[queue]
        rows = drawn["rows"][c]
        assert (rows >= begin).all() and (rows < begin + module.queues.count[queue]).all()
        value = slow_info_nce(flat_s[anchors][None], positive[None], module.queues.vectors, rows[None], 0.5)
        total = total + value.sum() / len(valid)
    torch.testing.assert_close(loss, total, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(grad, torch.autograd.grad(total, student)[0], rtol=1e-4, atol=1e-6)


def test_bfloat16_stays_near_and_finite() -> None:
    pixels, module = random_pixels(6, [0, 2, 5, 6]), small_contrast(6)
    fill(module)
    state = {k: v.clone() for k, v in module.state_dict().items()}
    student, teacher = torch.randn(N, D, H, W), torch.randn(N, D, H, W)
    values = []
    for dtype in (torch.float32, torch.bfloat16):
        module.load_state_dict(state)
        torch.manual_seed(1)
        x = student.to(dtype, copy=True).requires_grad_()
        loss = module(pixels, x, teacher.to(dtype))
        loss.backward()
        assert x.grad.isfinite().all()
        values.append(loss.item())
    assert values[1] == pytest.approx(values[0], rel=0.02)


@pytest.mark.parametrize("present", [[3], [3, 6], [6]])
def test_fewer_than_two_valid_classes_give_exactly_zero(present: list[int]) -> None:
    module = small_contrast(6)
    fill(module)
    loss, reached = touched(module, random_pixels(6, present))
    assert loss.item() == 0.0 and not reached.any()


def test_nothing_certain_gives_zero_and_still_fills_the_queues() -> None:
    module, pixels = small_contrast(6), random_pixels(6)
    pixels.certain = torch.zeros_like(pixels.certain)
    loss, reached = touched(module, pixels)
    assert loss.item() == 0.0 and not reached.any() and module.queues.count.sum() > 0


def test_an_empty_queue_contributes_nothing() -> None:
    module = small_contrast(6, negative_rule="released", ranks=(5, 6))
    pixels = random_pixels(6, [0, 1])
    pixels.uncertain = pixels.labeled  # no unlabeled negative at all
    loss, reached = touched(module, pixels)
    assert module.queues.count.sum() == 0 and loss.item() == 0.0 and not reached.any()


@pytest.mark.parametrize(
    ("present", "bug", "expected"),
    [
        ([0, 8, 12, 15, 20], False, {0, 8, 12, 15, 20}),
        ([0, 8, 12, 15, 20], True, {0}),
        ([0, 2, 5], False, {0, 2, 5}),
        ([0, 2, 5], True, {0, 2}),
    ],
)
def test_the_class_list_bug_leaves_classes_beyond_the_number_of_valid_ones_out(present, bug, expected) -> None:
    module, pixels = small_contrast(21, class_list_bug=bug), random_pixels(21, present)
    pixels.prob = torch.full_like(pixels.prob, 0.01)
    pixels.prob.scatter_(1, pixels.labels[:, None], 0.8)
    fill(module)
    _, reached = touched(module, pixels)
    assert set(pixels.labels[reached].tolist()) == expected


def test_at_most_as_many_pixels_of_a_class_as_anchors_get_a_gradient() -> None:
    module, pixels = small_contrast(3, anchors=4), random_pixels(3, [0, 1, 2])
    fill(module)
    _, reached = touched(module, pixels)
    counts = pixels.labels[reached].bincount(minlength=3)
    assert reached.any() and (counts <= 4).all()


def test_no_gradient_reaches_the_teacher_or_the_queue() -> None:
    module, pixels = small_contrast(6), random_pixels(6)
    teacher = torch.randn(N, D, H, W, requires_grad=True)
    module(pixels, torch.randn(N, D, H, W, requires_grad=True), teacher).backward()
    assert teacher.grad is None and not module.queues.vectors.requires_grad


def test_wrong_values_are_named() -> None:
    with pytest.raises(ValueError, match=r"negative_rule=own: "):
        PixelContrast(3, negative_rule="own")
    with pytest.raises(ValueError, match=r"method.contrast.ranks"):
        PixelContrast(3, ranks=(3, 3))
