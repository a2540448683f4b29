"""InfoNCE against rows of a table, each gathered only once, in the forward pass."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from semiseg.ops.queue import ClassQueues

AT_ONCE = {"cpu": 32, "cuda": 1024}
"""Vectors per chunk: on a CPU the rows of a chunk stay in the cache; a GPU does not benefit from small ones."""


def info_nce(anchors: Tensor, positives: Tensor, queues: ClassQueues, rows: Tensor, temperature: float) -> Tensor:
    """InfoNCE of every class, (C,): mean over its anchors of -s0 + log(exp(s0) + sum_k exp(s_k)), s = cosine / t.

    Args:
        anchors: (C, M, D), the only input with a gradient.
        positives: (C, D), not normalized.
        queues: contain the negatives.
        rows: (C, M, N) long, rows of ``queues.vectors``.
    """
    unit = F.normalize(anchors.float(), dim=-1)
    positive = F.normalize(positives.float(), dim=-1)[:, None].expand_as(unit)
    loss: Tensor = _InfoNCE.apply(
        unit.flatten(0, 1), positive.flatten(0, 1), queues.vectors, rows.flatten(0, 1), temperature
    )
    return loss.view(rows.shape[:2]).mean(dim=1)


class _InfoNCE(torch.autograd.Function):
    """-s0 + log(exp(s0) + sum_k exp(s_k)) of G unit vectors (G, D) against rows (G, N) of a table (Q, D), (G,).

    The rows are gathered once, in small chunks that stay in the cache; the gradient is computed in the forward pass,
    while they are there. Memory is O(G D), not O(G N D).
    """

    @staticmethod
    def forward(ctx, unit: Tensor, positive: Tensor, table: Tensor, rows: Tensor, temperature: float) -> Tensor:  # type: ignore[no-untyped-def]
        losses, gradients, at_once = [], [], AT_ONCE.get(unit.device.type, 1024)
        for v, p, r in zip(*(x.split(at_once) for x in (unit, positive, rows))):
            keys = table.index_select(0, r.flatten()).to(v.dtype).view(*r.shape, -1)
            # Product and sum, as batched matrix-vector products are several times slower on a CPU.
            s0, s = (v * p).sum(dim=1, keepdim=True), (keys * v[:, None]).sum(dim=2)
            scores = torch.cat([s0, s], dim=1) / temperature
            log_sum = scores.logsumexp(dim=1, keepdim=True)
            share = (scores - log_sum).exp()  # softmax: the gradient of the log term w.r.t. each score
            toward = (share[:, 1:, None] * keys).sum(dim=1)
            losses.append((log_sum - scores[:, :1]).squeeze(1))
            gradients.append((toward + (share[:, :1] - 1) * p) / temperature)
        ctx.save_for_backward(torch.cat(gradients))
        return torch.cat(losses)

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor, None, None, None, None]:  # type: ignore[no-untyped-def]
        (gradient,) = ctx.saved_tensors
        return grad[:, None] * gradient, None, None, None, None
