"""First-in-first-out queues of feature vectors, one per class, as ring buffers in one tensor."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from semiseg.ops.distributed import gather, world_size


class ClassQueues(nn.Module):
    """One ring buffer of unit vectors per class: part of the checkpoint, and equal on all ranks.

    Vectors are normalized, as they are only compared by cosine.

    Args:
        sizes: entries Q_c of each class.
        dim: length D of a vector.
        dtype: type of the stored vectors.

    Attributes:
        vectors: (sum Q_c, D), all queues concatenated.
        start: (C,) long, first row of each queue.
        head: (C,) long, position of the next entry of each class.
        count: (C,) long, entries that have been written, at most Q_c.
    """

    vectors: Tensor
    start: Tensor
    sizes: Tensor
    head: Tensor
    count: Tensor

    def __init__(self, sizes: Sequence[int], dim: int, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.smallest = min(sizes)
        length = torch.tensor(sizes)
        self.register_buffer("vectors", torch.zeros(sum(sizes), dim, dtype=dtype))
        self.register_buffer("sizes", length, persistent=False)
        self.register_buffer("start", length.cumsum(0) - length, persistent=False)
        self.register_buffer("head", torch.zeros_like(length))
        self.register_buffer("count", torch.zeros_like(length))

    def capacity(self, wanted: int) -> int:
        """Maximum vectors per class and rank in one push, at most ``wanted``: a push never overwrites its own."""
        return min(wanted, self.smallest // world_size())

    @torch.no_grad()
    def push(self, vectors: Tensor, valid: Tensor) -> None:
        """Append the vectors of all ranks, in rank order, overwriting the oldest.

        Args:
            vectors: (C, K, D), not normalized, K at most ``capacity(K)``.
            valid: (C, K) bool: which of them are valid; valid ones come first.
        """
        keys = F.normalize(vectors.float(), dim=-1).to(self.vectors.dtype)
        if world_size() > 1:
            ranks, n_classes = world_size(), len(keys)
            keys = gather(keys).view(ranks, n_classes, *keys.shape[1:]).transpose(0, 1).flatten(1, 2)
            valid = gather(valid).view(ranks, n_classes, -1).transpose(0, 1).flatten(1, 2)
            order = (~valid).long().argsort(dim=1, stable=True)
            keys, valid = keys.gather(1, order[..., None].expand_as(keys)), valid.gather(1, order)
        # Invalid vectors map to distinct slots and rewrite what is already there.
        place = torch.arange(keys.shape[1], device=keys.device)
        slot = self.start[:, None] + (self.head[:, None] + place) % self.sizes[:, None]
        self.vectors[slot] = torch.where(valid[..., None], keys, self.vectors[slot])
        added = valid.sum(dim=1)
        self.head.copy_((self.head + added) % self.sizes)
        self.count.copy_(torch.minimum(self.count + added, self.sizes))

    def sample(self, classes: Tensor, shape: tuple[int, ...]) -> Tensor:
        """Draw rows of ``vectors`` uniformly with replacement from the queues of ``classes`` (G,): (G, *shape) long.

        An empty queue returns its first row; see ``count``.
        """
        around = (len(classes), *(1 for _ in shape))
        u = torch.rand(len(classes), *shape, device=self.vectors.device)
        count = self.count[classes].view(around)
        # The product may round up to the count itself.
        return self.start[classes].view(around) + torch.minimum((u * count).long(), (count - 1).clamp(min=0))
