"""Collective operations on tensors; no-ops in a single process."""

from __future__ import annotations

import torch
from torch import Tensor
from torch import distributed as dist


def is_distributed() -> bool:
    """Whether there is more than one process."""
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


@torch.no_grad()
def gather(x: Tensor) -> Tensor:
    """The tensors (n, ...) of all ranks in rank order, (R * n, ...); the shape must be the same on every rank."""
    if not is_distributed():
        return x
    parts = [torch.empty_like(x, memory_format=torch.contiguous_format) for _ in range(dist.get_world_size())]
    dist.all_gather(parts, x.contiguous())
    return torch.cat(parts)


@torch.no_grad()
def total(x: Tensor) -> Tensor:
    """The sum over all ranks, same shape."""
    if not is_distributed():
        return x
    x = x.clone()
    dist.all_reduce(x)
    return x


@torch.no_grad()
def largest(x: Tensor) -> Tensor:
    """The elementwise maximum over all ranks, same shape."""
    if not is_distributed():
        return x
    x = x.clone()
    dist.all_reduce(x, op=dist.ReduceOp.MAX)
    return x


@torch.no_grad()
def from_first_rank(x: Tensor) -> None:
    """Overwrite ``x`` in place with the value on rank 0."""
    if is_distributed():
        dist.broadcast(x, src=0)


def world_size() -> int:
    """Number of processes."""
    return dist.get_world_size() if is_distributed() else 1
