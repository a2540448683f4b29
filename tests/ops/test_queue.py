from __future__ import annotations

import random

import pytest
import torch
from torch.nn import functional as F

from semiseg.ops.queue import ClassQueues
from support.helpers import two_processes

SIZES = (7, 5, 6)


def keys(*numbers: list[int], limit: int = 4) -> tuple[torch.Tensor, torch.Tensor]:
    """One distinct direction for each number, and which entries exist; the rest is noise."""
    vectors, valid = torch.randn(len(numbers), limit, 2), torch.zeros(len(numbers), limit, dtype=torch.bool)
    for c, row in enumerate(numbers):
        for place, number in enumerate(row):
            angle = torch.tensor(number * 0.01)
            vectors[c, place] = 3.0 * torch.stack([angle.cos(), angle.sin()])
            valid[c, place] = True
    return vectors, valid


def content(queues: ClassQueues, c: int) -> list[int]:
    begin, n = queues.start[c].item(), queues.count[c].item()
    held = queues.vectors[begin : begin + n]
    return sorted(round(torch.atan2(y, x).item() * 100) for x, y in held)


def test_contents_equal_a_list_cut_to_its_newest_entries() -> None:
    random.seed(0)
    queues, naive, number = ClassQueues(SIZES, 2), [[] for _ in SIZES], 0
    for _ in range(30):
        rows = []
        for c, size in enumerate(SIZES):
            n = random.choice([0, 0, 1, 2, 3, 4])
            rows.append(list(range(number, number + n)))
            number = (number + n) % 150  # angles stay below a half turn
            naive[c] = (naive[c] + rows[-1])[-size:]
        queues.push(*keys(*rows))
        assert [content(queues, c) for c in range(len(SIZES))] == [sorted(x) for x in naive]


def test_pushing_nothing_changes_nothing() -> None:
    queues = ClassQueues(SIZES, 2)
    queues.push(*keys([1, 2], [3], []))
    before = {k: v.clone() for k, v in queues.state_dict().items()}
    queues.push(*keys([], [], []))
    assert all(torch.equal(before[k], v) for k, v in queues.state_dict().items())


def test_only_directions_are_kept() -> None:
    queues = ClassQueues(SIZES, 2)
    vectors, valid = keys([1, 2], [3], [4, 5, 6])
    queues.push(vectors, valid)
    assert torch.allclose(queues.vectors.norm(dim=1), (queues.vectors.abs().sum(1) > 0).float())
    kept = queues.vectors[queues.start[0] : queues.start[0] + 2]
    assert torch.allclose(kept, F.normalize(vectors[0][valid[0]], dim=1))


def test_draws_are_uniform_over_what_is_there() -> None:
    torch.manual_seed(0)
    queues = ClassQueues((9, 4), 2)
    queues.push(*keys([1, 2, 3], []))
    rows = queues.sample(torch.tensor([0, 1]), (200, 30))
    assert rows.shape == (2, 200, 30)
    assert set(rows[0].flatten().tolist()) == {0, 1, 2}
    shares = rows[0].flatten().bincount() / 6000
    assert (shares - 1 / 3).abs().max() < 0.02
    assert (rows[1] == 9).all()  # the empty queue gives its first row


def test_the_whole_state_is_saved() -> None:
    assert set(ClassQueues(SIZES, 2).state_dict()) == {"vectors", "head", "count"}


def pushes(rank: int) -> dict[str, torch.Tensor]:
    random.seed(0)
    queues = ClassQueues(SIZES, 2)
    for step in range(5):
        limit = queues.capacity(4)
        assert limit == 2  # the smallest queue holds five: two processes may bring two each
        queues.push(*keys([10 * step + rank], [], [20 * step + 2 * rank, 20 * step + 2 * rank + 1], limit=limit))
    return queues.state_dict()


@pytest.mark.ddp
def test_two_ranks_end_with_the_same_queue_in_rank_order() -> None:
    first, second = two_processes(pushes)
    assert all(torch.equal(first[k], second[k]) for k in first)
    expected = [10 * step + rank for step in range(5) for rank in range(2)][-7:]
    queues = ClassQueues(SIZES, 2)
    queues.load_state_dict(first)
    assert content(queues, 0) == sorted(expected)
    assert content(queues, 1) == []
    assert content(queues, 2) == [60, 61, 62, 63, 80, 81, 82, 83][-6:]
