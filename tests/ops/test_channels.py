from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from semiseg.ops.channels import group_channels, push_channels, score_deviation, standardized_attention

SHAPES = {  # q, then k and v; both ways to the variance, shared keys, heads
    "scores": ((2, 1, 5, 9), (2, 1, 7, 9)),
    "grams": ((2, 1, 12, 3), (2, 1, 15, 3)),
    "shared, scores": ((3, 1, 4, 9), (1, 1, 6, 9)),
    "shared, grams": ((3, 1, 12, 3), (1, 1, 24, 3)),
    "heads": ((2, 2, 5, 8), (2, 2, 5, 8)),
    "one position": ((1, 1, 4, 1), (1, 1, 8, 1)),
}


def literal(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Matrix by matrix: all scores, instance norm, row softmax."""
    out = torch.empty(*q.shape[:3], v.shape[-1], dtype=q.dtype)
    for i in range(len(q)):
        for head in range(q.shape[1]):
            j = i if len(k) > 1 else 0
            s = q[i, head] @ k[j, head].mT
            s = (s - s.mean()) / (s.var(unbiased=False) + 1e-5).sqrt()
            out[i, head] = s.softmax(1) @ v[j, head]
    return out


def inputs(shape: str, dtype: torch.dtype) -> list[Tensor]:
    q, k = SHAPES[shape]
    # Scores with a mean of their own, so that a forgotten mean would show.
    return [(torch.randn(s, dtype=dtype) + 0.5).requires_grad_() for s in (q, k, k)]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dtype,tolerance", [(torch.float64, 1e-12), (torch.float32, 1e-5)])
def test_attention_equals_instance_norm_and_softmax_gradients_too(shape: str, dtype: torch.dtype, tolerance: float):
    tensors = inputs(shape, dtype)
    results = []
    for attend in (standardized_attention, literal):
        out = attend(*tensors)
        results.append([out, *torch.autograd.grad((out * torch.arange(out.shape[-2])[:, None]).sum(), tensors)])
    for ours, theirs in zip(*results):
        assert (ours - theirs).abs().max() <= tolerance * theirs.abs().max().clamp(min=1)


def test_attention_in_bfloat16_keeps_the_deviation_in_float32():
    q, k, v = (x.detach() for x in inputs("shared, grams", torch.float32))
    half = [x.bfloat16() for x in (q, k, v)]
    exact = score_deviation(*(x.float() for x in half[:2]))
    with torch.autocast("cpu", torch.bfloat16):
        deviation, out = score_deviation(*half[:2]), standardized_attention(*half)
    assert deviation.dtype == torch.float32 and out.dtype == torch.bfloat16
    assert torch.equal(deviation, exact)
    torch.testing.assert_close(out.float(), literal(q, k, v), rtol=0.03, atol=0.03)


def test_equal_scores_give_the_mean_and_finite_gradients():
    q, k, v = torch.ones(1, 1, 3, 4, requires_grad=True), torch.ones(1, 1, 5, 4), torch.randn(1, 1, 5, 4)
    out = standardized_attention(q, k, v)
    torch.testing.assert_close(out, v.mean(2, keepdim=True).expand_as(out))
    out.sum().backward()
    assert q.grad.isfinite().all()


def test_dropout_falls_on_the_probabilities():
    q, k = torch.randn(1, 1, 4, 5), torch.randn(1, 1, 4000, 5)
    v = torch.ones(1, 1, 4000, 5)
    out = standardized_attention(q, k, v, dropout=0.5)
    assert not torch.equal(out, v[:, :, :4])  # the rows no longer sum to one ...
    torch.testing.assert_close(out.mean(), torch.tensor(1.0), rtol=0, atol=0.15)  # ... but do on average


# -- grouping -------------------------------------------------------------------------------------------------


def disjoint() -> tuple[Tensor, Tensor, Tensor]:
    """Score maps of 4 classes that cover a quarter each of 8 x 6 cells, channels that are noisy copies; classes."""
    maps = torch.zeros(4, 8, 6)
    for c in range(4):
        maps[c, 2 * c : 2 * c + 2] = 1.0
    classes = torch.randint(4, (3, 11))
    channels = maps[classes].flatten(2) + 0.1 * torch.randn(3, 11, 48)
    return maps.expand(3, -1, -1, -1), channels, classes


def test_every_channel_gets_the_class_it_looks_like():
    scores, channels, classes = disjoint()
    assert torch.equal(group_channels(scores, channels, (8, 6)), classes)


def test_grouping_does_not_see_the_size_of_channels_and_score_maps():
    scores, channels, _ = disjoint()
    channels = channels + 0.5 * torch.randn_like(channels)
    scores = scores + 0.3 * torch.rand_like(scores)
    before = group_channels(scores, channels, (8, 6))
    rescaled = group_channels(scores * torch.tensor([0.1, 9, 3, 30])[:, None, None], channels * 7, (8, 6))
    assert torch.equal(before, rescaled) and len(before.unique()) == 4
    assert torch.equal(before, group_channels(scores, channels * (torch.rand(3, 11, 1) + 0.1), (8, 6)))


def test_scores_are_resized_before_they_are_normalized():
    scores, channels = torch.randn(2, 5, 31, 17), torch.randn(2, 40, 12)
    small = F.interpolate(scores, (3, 4), mode="bilinear", align_corners=False)
    got = group_channels(scores, channels, (3, 4))
    for b in range(2):
        for c in range(40):
            cosines = [F.cosine_similarity(small[b, k].flatten(), channels[b, c], dim=0) for k in range(5)]
            assert got[b, c] == torch.stack(cosines).argmax()
    assert torch.equal(got, group_channels(small, channels, (3, 4)))  # resizing ahead changes nothing


def test_a_channel_of_zeros_has_a_class():
    assert not group_channels(torch.randn(1, 3, 4, 4), torch.zeros(1, 2, 16), (4, 4)).any()


# -- the queues -----------------------------------------------------------------------------------------------


def queues(n_classes: int, n_slots: int) -> tuple[Tensor, Tensor, Tensor]:
    return (
        torch.randn(n_classes, n_slots, 3),
        torch.randint(n_slots, (n_classes,)),
        torch.randint(n_slots + 1, (n_classes,)),
    )


@pytest.mark.parametrize("trial", range(60))
def test_the_update_equals_a_loop_over_channels(trial: int):
    torch.manual_seed(trial)
    n_classes, n_slots, n = (int(torch.randint(low, high, ())) for low, high in ((1, 6), (1, 9), (1, 40)))
    mem, ptr, filled = queues(n_classes, n_slots)
    channels, classes = torch.randn(n, 3), torch.randint(n_classes, (n,))
    if trial % 3 == 0:
        classes.fill_(n_classes - 1)  # far more than S of one class
    if trial % 3 == 1:
        classes = classes // 2  # some classes get nothing
    expected = [x.clone() for x in (mem, ptr, filled)]
    for channel, k in zip(channels, classes.tolist()):
        expected[0][k, expected[1][k]] = channel
        expected[1][k] = (expected[1][k] + 1) % n_slots
        expected[2][k] = min(expected[2][k] + 1, n_slots)
    before = [x.clone() for x in (mem, ptr, filled)]
    push_channels(mem, ptr, filled, channels, classes)
    for got, want in zip((mem, ptr, filled), expected):
        assert torch.equal(got, want)
    count = torch.tensor([(classes == k).sum() for k in range(n_classes)])
    assert count.sum() == n and torch.equal(ptr, (before[1] + count) % n_slots)
    for k in (count == 0).nonzero().flatten().tolist():
        assert torch.equal(mem[k], before[0][k]) and ptr[k] == before[1][k] and filled[k] == before[2][k]
