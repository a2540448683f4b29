"""Attention whose tokens are channels, the class of a channel, and a ring buffer of channels for every class."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

EPS = 1e-5
"""Added to the variance, as PyTorch's instance norm does."""


def standardized_attention(q: Tensor, k: Tensor, v: Tensor, *, dropout: float = 0.0) -> Tensor:
    """softmax(psi(q k^T)) v, where psi gives each score matrix zero mean and unit variance over all its entries.

    There is no other scale. A row softmax ignores an added constant, so psi comes down to a division by the standard
    deviation, which goes into the queries; what remains is plain attention, for PyTorch's fused kernels.

    Args:
        q: (B, h, m, d) queries.
        k: (B, h, n, d) keys, or (1, 1, n, d) that all images share where h is 1.
        v: as ``k``.
        dropout: on the attention probabilities.

    Returns:
        (B, h, m, d).
    Source: Wang et al. 2024 (AllSpark), channel-wise cross-attention; instance norm as in the released code, one mean
        and one biased variance per image and head.
    """
    shape, width = q.shape, q.shape[-1]
    q = (q / score_deviation(q, k)).to(v.dtype)
    if len(k) < len(q):  # shared keys: the queries of all images are rows of one matrix
        q = q.reshape(1, 1, -1, width)
    # Zeros change no product; fused kernels want a width that divides by 8.
    q, k, v = (F.pad(x, (0, -width % 8)) for x in (q, k, v))
    return F.scaled_dot_product_attention(q, k, v, dropout_p=dropout, scale=1.0)[..., :width].reshape(shape)


def score_deviation(q: Tensor, k: Tensor) -> Tensor:
    """sqrt(Var(q k^T) + 1e-5) over all entries of each matrix, (B, h, 1, 1) float32 or better, without the matrix.

    E[S^2] = <q^T q, k^T k> / (m n) needs two d x d matrices; where the scores themselves are less work, they are used.
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
        return (variance.clamp(min=0) + EPS).sqrt()  # rounding may take it below zero


def gram(x: Tensor) -> Tensor:
    """x^T x of (..., n, d), for losses with a symmetric gradient by it: then one product gives that by x, not two."""
    half = x.mT @ x.detach()
    return 2 * half - half.detach()


@torch.no_grad()
def group_channels(scores: Tensor, channels: Tensor, size: tuple[int, int]) -> Tensor:
    """The class whose score map is most similar to each channel, by the cosine over positions.

    Args:
        scores: (B, K, H, W) class scores of the images; resized bilinearly to ``size`` before anything else.
        channels: (B, C, h * w).
        size: (h, w).

    Returns:
        (B, C) long in [0, K). Every channel gets a class; a channel of zeros gets class 0.
    Source: AllSpark, Channel Semantic Grouping.
    """
    maps = F.interpolate(scores.float(), size, mode="bilinear", align_corners=False).flatten(2)
    with torch.autocast(maps.device.type, enabled=False):
        # The length of the channel is the same for every class, so it need not be divided by.
        return (F.normalize(maps, dim=2) @ channels.float().mT).max(1).indices


@torch.no_grad()
def push_channels(mem: Tensor, ptr: Tensor, filled: Tensor, channels: Tensor, classes: Tensor) -> None:
    """Append channels to the ring buffers of their classes, in place; the oldest give way.

    Equal to a loop over the channels in order, also where more than S of them go to one class.

    Args:
        mem: (K, S, N) S slots of every class.
        ptr: (K,) long in [0, S), the slot to be written next.
        filled: (K,) long in [0, S], slots written at least once.
        channels: (n, N) in the order of arrival.
        classes: (n,) long in [0, K).
    """
    n_classes, n_slots = mem.shape[:2]
    member = classes[:, None] == torch.arange(n_classes, device=classes.device)
    running = member.cumsum(0)
    count = running[-1]
    rank = running.gather(1, classes[:, None]).squeeze(1) - 1
    row = classes * n_slots + (ptr[classes] + rank) % n_slots
    # Entries for the same slot all carry the last one's values, so it does not matter which is written last.
    order = torch.arange(len(row), device=row.device)
    last = row.new_zeros(n_classes * n_slots).scatter_reduce_(0, row, order, "amax")
    mem.view(n_classes * n_slots, -1).index_copy_(0, row, channels[last[row]].to(mem.dtype))
    ptr.copy_((ptr + count) % n_slots)
    filled.copy_((filled + count).clamp(max=n_slots))
