from __future__ import annotations

import pytest
import torch

from semiseg.ops.distributed import from_first_rank, gather, total
from support.helpers import two_processes


def test_alone_nothing_is_exchanged() -> None:
    x = torch.arange(6.0).view(3, 2)
    assert gather(x) is x and total(x) is x
    from_first_rank(x)
    assert torch.equal(x, torch.arange(6.0).view(3, 2))


def exchange(rank: int) -> dict[str, torch.Tensor]:
    mine = torch.full((2, 3), float(rank + 1))
    received = mine.clone()
    from_first_rank(received)
    return {"gathered": gather(mine.t()), "total": total(mine), "received": received, "mine": mine}


@pytest.mark.ddp
def test_two_ranks_hold_the_same_in_rank_order() -> None:
    ranks = two_processes(exchange)
    for rank, got in enumerate(ranks):
        assert torch.equal(got["gathered"], torch.tensor([[1.0] * 2] * 3 + [[2.0] * 2] * 3))
        assert torch.equal(got["total"], torch.full((2, 3), 3.0))
        assert torch.equal(got["received"], torch.ones(2, 3))
        assert torch.equal(got["mine"], torch.full((2, 3), float(rank + 1)))  # not changed by any of them
