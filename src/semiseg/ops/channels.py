"""Attention with channels as tokens, class assignment of channels, and a ring buffer of channels per class."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

EPS = 1e-5
"""Added to the variance, as PyTorch's instance norm does."""


def standardized_attention(q: Tensor, k: Tensor, v: Tensor, *, dropout: float = 0.0) -> Tensor:
    """softmax(psi(q k^T)) v, where psi gives each score matrix zero mean and unit variance over all its entries.

    There is no other scale. A row softmax ignores an added constant, so psi reduces to a division by the standard
    deviation, which is applied to the queries; what remains is plain attention, for PyTorch's fused kernels.

    Args:
        q: (B, h, m, d) queries.
        k: (B, h, n, d) keys, or (1, 1, n, d) shared by all images if h is 1.
        v: values, shaped like ``k``.
        dropout: dropout of the attention probabilities.

    Returns:
        (B, h, m, d).
    Source: Wang et al. 2024 (AllSpark), channel-wise cross-attention; instance norm as in the released code, one mean
        and one biased variance per image and head.
    """
    shape, width = q.shape, q.shape[-1]
    q = (q / score_deviation(q, k)).to(v.dtype)
    if len(k) < len(q):  # shared keys: the queries of all images are rows of one matrix
        q = q.reshape(1, 1, -1, width)
    # Zero padding does not change the products; fused kernels need a width divisible by 8.
    q, k, v = (F.pad(x, (0, -width % 8)) for x in (q, k, v))
    return F.scaled_dot_product_attention(q, k, v, dropout_p=dropout, scale=1.0)[..., :width].reshape(shape)


def score_deviation(q: Tensor, k: Tensor) -> Tensor:
    """sqrt(Var(q k^T) + 1e-5) over all entries of each matrix, (B, h, 1, 1) float32 or better, without the matrix.

    E[S^2] = <q^T q, k^T k> / (m n) needs two d x d matrices; if computing the scores is cheaper, they are used instead.
    Arguments as in :func:`standardized_attention`.
    """
    m, n, d = q.shape[-2], k.shape[-2], q.shape[-1]
    with torch.autocast(q.device.type, enabled=False):
        if q.dtype in (torch.bfloat16, torch.float16):
            q, k = q.float(), k.float()
        if m * n < (m + n) * d:
            square = (q @ k.mT).square()
        else:
            square = gram(q) * gram(k)
        mean = (q.sum(-2) * k.sum(-2)).sum(-1)[..., None, None] / (m * n)
        variance = square.sum((-2, -1), keepdim=True) / (m * n) - mean.square()
        return (variance.clamp(min=0) + EPS).sqrt()  # rounding may make it negative


def gram(x: Tensor) -> Tensor:
    """x^T x of (..., n, d), for losses whose gradient w.r.t. it is symmetric: backward needs one product, not two."""
    half = x.mT @ x.detach()
    return 2 * half - half.detach()


@torch.no_grad()
def group_channels(scores: Tensor, channels: Tensor, size: tuple[int, int]) -> Tensor:
    """The class whose score map is most similar to each channel, by cosine similarity over positions.

    Args:
        scores: (B, K, H, W) class scores of the images; first resized bilinearly to ``size``.
        channels: (B, C, h * w).
        size: (h, w).

    Returns:
        (B, C) long in [0, K). Every channel gets a class; an all-zero channel gets class 0.
    Source: AllSpark, Channel Semantic Grouping.
    """
    maps = F.interpolate(scores.float(), size, mode="bilinear", align_corners=False).flatten(2)
    with torch.autocast(maps.device.type, enabled=False):
        # The norm of a channel is the same for every class, so no division is needed.
        return (F.normalize(maps, dim=2) @ channels.float().mT).max(1).indices


@torch.no_grad()
def push_channels(mem: Tensor, ptr: Tensor, filled: Tensor, channels: Tensor, classes: Tensor) -> None:
    """Append channels to the ring buffers of their classes, in place, overwriting the oldest.

    Equivalent to a loop over the channels in order, even if more than S of them go to one class.

    Args:
        mem: (K, S, N), S slots per class.
        ptr: (K,) long in [0, S), the next slot to write.
        filled: (K,) long in [0, S], slots written at least once.
        channels: (n, N) in order of arrival.
        classes: (n,) long in [0, K).
    """
    n_classes, n_slots = mem.shape[:2]
    member = classes[:, None] == torch.arange(n_classes, device=classes.device)
    running = member.cumsum(0)
    count = running[-1]
    rank = running.gather(1, classes[:, None]).squeeze(1) - 1
    row = classes * n_slots + (ptr[classes] + rank) % n_slots
    # Entries for the same slot all carry the values of the last one, so the write order does not matter.
    order = torch.arange(len(row), device=row.device)
    last = row.new_zeros(n_classes * n_slots).scatter_reduce_(0, row, order, "amax")
    mem.view(n_classes * n_slots, -1).index_copy_(0, row, channels[last[row]].to(mem.dtype))
    ptr.copy_((ptr + count) % n_slots)
    filled.copy_((filled + count).clamp(max=n_slots))
