"""Numeric tests 2 to 5 of the specification of MKD."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from semiseg.ops.feature_augmentation import ClassStatistics, logit_shift
from support.helpers import two_processes

C, A = 5, 7


def pixels(n: int = 3, *, absent: int | None = 3) -> tuple[Tensor, Tensor]:
    """Features with an offset much larger than their spread, and labels, some of them 255."""
    features, labels = torch.randn(n, A, 6, 8) + 50, torch.randint(0, C, (n, 6, 8))
    if absent is not None:
        labels[labels == absent] = 0
    labels[:, :, 0] = 255
    return features, labels


def of_class(features: Tensor, labels: Tensor, c: int) -> Tensor:
    """(n, A) float64, the pixels of one class, one by one."""
    found = []
    for b in range(labels.shape[0]):
        for y in range(labels.shape[1]):
            for x in range(labels.shape[2]):
                if labels[b, y, x] == c:
                    found.append(features[b, :, y, x].double())
    return torch.stack(found) if found else torch.empty(0, features.shape[1], dtype=torch.double)


def statistics_of(*batches: tuple[Tensor, Tensor]) -> ClassStatistics:
    statistics = ClassStatistics(C, A)
    for features, labels in batches:
        statistics.update(features, labels)
    return statistics


def slow_shift(weight: Tensor, variance: Tensor, labels: Tensor, strength: float) -> Tensor:
    """Pixel by pixel, class by class."""
    shift = torch.zeros(labels.shape[0], C, *labels.shape[1:])
    for b in range(labels.shape[0]):
        for y in range(labels.shape[1]):
            for x in range(labels.shape[2]):
                label = int(labels[b, y, x])
                if label == 255:
                    continue
                for j in range(C):
                    sigma2 = strength * sum(
                        (weight[j, a] - weight[label, a]) ** 2 * variance[label, a] for a in range(A)
                    )
                    shift[b, j, y, x] = 0.5 * sigma2
    return shift


# -- statistics -----------------------------------------------------------------------------------------------


def test_statistics_in_chunks_are_those_of_all_pixels() -> None:
    chunks = [pixels(n) for n in (3, 1, 2)]
    statistics = statistics_of(*chunks)
    features, labels = torch.cat([f for f, _ in chunks]), torch.cat([y for _, y in chunks])
    for c in (0, 1, 2, 4):
        x = of_class(features, labels, c)
        assert statistics.count[c] == len(x)
        assert torch.allclose(statistics.mean[c].double(), x.mean(0), rtol=1e-5)
        assert torch.allclose(statistics.variance[c].double(), x.var(0, unbiased=False), rtol=1e-5)


def test_the_order_of_chunks_does_not_matter() -> None:
    chunks = [pixels(n) for n in (1, 2, 3)]
    forwards, backwards = statistics_of(*chunks), statistics_of(*reversed(chunks))
    for a, b in zip(forwards.buffers(), backwards.buffers()):
        assert torch.allclose(a, b, rtol=1e-5)


def test_ignored_pixels_and_absent_classes_leave_no_trace() -> None:
    statistics = statistics_of(pixels(absent=None))
    before = statistics.variance[3].clone(), statistics.mean[3].clone(), statistics.count[3].clone()
    features, labels = pixels(absent=3)
    features[:, :, :, 0] = 1e6  # the ignored column
    expected = of_class(features, labels, 1)
    statistics.update(features, labels)
    assert all(torch.equal(x[3], y) for x, y in zip((statistics.variance, statistics.mean, statistics.count), before))
    fresh = statistics_of((features, labels))
    assert fresh.count.sum() == (labels != 255).sum() and fresh.count[3] == 0
    assert torch.allclose(fresh.mean[1].double(), expected.mean(0), rtol=1e-5)
    assert (fresh.variance[3] == 0).all() and (fresh.mean[3] == 0).all()


def test_nothing_but_ignored_pixels_changes_nothing() -> None:
    for statistics in (ClassStatistics(C, A), statistics_of(pixels())):
        before = [b.clone() for b in statistics.buffers()]
        features, labels = pixels()
        statistics.update(features, torch.full_like(labels, 255))
        assert all(torch.equal(a, b) for a, b in zip(before, statistics.buffers()))


def test_a_single_pixel_has_no_variance() -> None:
    statistics = statistics_of((torch.randn(1, A, 1, 1), torch.tensor([[[2]]])))
    assert statistics.count.tolist() == [0, 0, 1, 0, 0] and (statistics.variance == 0).all()


def test_statistics_stay_in_float32_under_autocast() -> None:
    features, labels = pixels()
    expected = statistics_of((features, labels))
    with torch.autocast("cpu", torch.bfloat16):
        statistics = statistics_of((features, labels))
        table = statistics.table(torch.ones(C, A).cumsum(0))
    assert all(torch.equal(a, b) for a, b in zip(statistics.buffers(), expected.buffers()))
    assert table.equal(expected.table(torch.ones(C, A).cumsum(0))) and table.dtype == torch.float32


def test_no_gradient_flows_into_or_through_the_statistics() -> None:
    features, labels = pixels()
    statistics = statistics_of((features.requires_grad_(), labels))
    weight = torch.randn(C, A, requires_grad=True)
    shift = logit_shift(statistics.table(weight), labels, 1.0)
    assert not shift.requires_grad and not any(b.requires_grad for b in statistics.buffers())
    assert set(statistics.state_dict()) == {"mean", "variance", "count"}


def counted(rank: int, batches: list[tuple[Tensor, Tensor]], sync: bool) -> dict[str, Tensor]:
    statistics = ClassStatistics(C, A, sync=sync)
    for features, labels in batches[rank::2]:
        statistics.update(features, labels)
    return statistics.state_dict()


@pytest.mark.ddp
@pytest.mark.parametrize("sync", [True, False])
def test_two_processes_count_all_pixels_or_their_own(sync: bool) -> None:
    batches = [pixels(2) for _ in range(4)]
    together, apart = statistics_of(*batches), [statistics_of(*batches[rank::2]) for rank in range(2)]
    for rank, got in enumerate(two_processes(counted, batches, sync)):
        expected = (together if sync else apart[rank]).state_dict()
        assert all(torch.allclose(got[k], expected[k], rtol=1e-5) for k in expected)


# -- shift ----------------------------------------------------------------------------------------------------


def test_shift_against_the_loop_over_pixels_classes_and_channels() -> None:
    statistics, weight = statistics_of(pixels(absent=None)), torch.randn(C, A)
    labels = pixels(2, absent=None)[1]
    shift = logit_shift(statistics.table(weight), labels, 0.7)
    expected = slow_shift(weight, statistics.variance, labels, 0.7)
    assert expected.amax() > 1
    assert torch.allclose(shift, expected, rtol=1e-5, atol=1e-6)


def test_table_is_zero_on_the_diagonal_and_nowhere_negative() -> None:
    table = statistics_of(pixels(absent=None)).table(torch.randn(C, A))
    assert (table.diagonal() == 0).all() and (table >= 0).all() and (table > 0).sum() == C * (C - 1)


def test_no_variance_no_strength_or_no_label_means_no_shift() -> None:
    statistics, weight, labels = statistics_of(pixels(absent=3)), torch.randn(C, A), pixels(absent=None)[1]
    table = statistics.table(weight)
    assert (logit_shift(table, labels, 0.0) == 0).all()
    assert (logit_shift(ClassStatistics(C, A).table(weight), labels, 1.0) == 0).all()
    shift = logit_shift(table, labels, 1.0).movedim(1, -1)
    assert (shift[labels == 255] == 0).all() and (labels == 3).any()
    assert (shift[labels == 3] == 0).all()  # a class never seen
    assert (shift[labels == 1].sum(-1) > 0).all()


def test_the_own_class_stays_and_cross_entropy_can_only_grow() -> None:
    statistics, weight, labels = statistics_of(pixels(absent=None)), torch.randn(C, A), pixels(absent=None)[1]
    logits = torch.randn(3, C, 6, 8)
    shifted = logits + logit_shift(statistics.table(weight), labels, 1.5)
    valid, known = labels != 255, labels.clamp(max=C - 1).unsqueeze(1)
    assert torch.equal(shifted.gather(1, known).squeeze(1)[valid], logits.gather(1, known).squeeze(1)[valid])
    before, after = (F.cross_entropy(z, labels, ignore_index=255, reduction="none") for z in (logits, shifted))
    assert (after >= before).all() and (after > before)[valid].all()


def test_shift_is_the_expectation_over_augmented_features() -> None:
    """E exp((w_j - w_y) e) with e from N(0, strength * diag(v_y)) is exp of the shift."""
    statistics, weight, y, strength = statistics_of(pixels(absent=None)), 0.3 * torch.randn(C, A), 2, 0.5
    draws = (strength * statistics.variance[y]).sqrt() * torch.randn(400_000, A)
    expected = (draws @ (weight - weight[y]).T).exp().mean(0)
    shift = logit_shift(statistics.table(weight), torch.tensor([[[y]]]), strength).flatten()
    assert (shift > 0.02).sum() == C - 1
    assert torch.allclose(shift.exp(), expected, rtol=0.02)


def test_two_classes_are_enough() -> None:
    statistics = ClassStatistics(2, A)
    statistics.update(torch.randn(1, A, 2, 2), torch.tensor([[[0, 1], [1, 0]]]))
    assert logit_shift(statistics.table(torch.randn(2, A)), torch.tensor([[[0, 255]]]), 1.0).shape == (1, 2, 1, 2)
