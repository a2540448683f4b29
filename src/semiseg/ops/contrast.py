"""Pixel-to-prototype contrast with class-wise negatives: the tensor operations of U2PL."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from semiseg.arguments import checked
from semiseg.errors import InputError
from semiseg.ops.distributed import world_size
from semiseg.ops.info_nce import info_nce
from semiseg.ops.queue import ClassQueues
from semiseg.ops.ranges import Count, Index, Positive, Share


def entropy(prob: Tensor) -> Tensor:
    """Entropy in nats of class probabilities (B, C, ...), (B, ...) float32."""
    return -(prob * (prob + 1e-10).log()).sum(dim=1)


def percentiles(values: Tensor, valid: Tensor, percents: tuple[float, ...]) -> list[Tensor]:
    """Percentiles of the valid values by linear interpolation, as in NumPy; inf if nothing is valid.

    Args:
        values, valid: of the same shape; valid is bool.
        percents: in [0, 100].

    Returns:
        A scalar for each percentage.
    """
    ordered = values.masked_fill(~valid, torch.inf).flatten().sort().values
    last = (valid.sum() - 1).clamp(min=0)
    found = []
    for percent in percents:
        position = last * (percent / 100)
        below = position.floor().long()
        above = torch.minimum(below + 1, last)
        low, high = ordered.gather(0, torch.stack([below, above]))
        # At the last position both are the same value, which may be infinite.
        found.append(torch.where(low == high, low, low + (high - low) * (position - below)))
    return found


@dataclass
class Pixels:
    """All pixels of N maps, flattened to P = N * h * w, without gradients.

    Attributes:
        labels: (P,) long in [0, C), or C for no label.
        prob: (P, C) float32, the teacher's probabilities.
        certain: (P,) bool, certain enough to be an anchor or part of a prototype.
        uncertain: (P,) bool, uncertain enough to be a negative.
        labeled: (P,) bool, belongs to a labeled image.
    """

    labels: Tensor
    prob: Tensor
    certain: Tensor
    uncertain: Tensor
    labeled: Tensor

    @classmethod
    def from_maps(
        cls, *, labels: Tensor, certain: Tensor, uncertain: Tensor, has_label: Tensor, prob: Tensor, n_labeled: int
    ) -> Pixels:
        """From labels and masks (N, H, W), resampled to the pixels of ``prob`` (N, C, h, w) by nearest neighbor."""
        n_classes = prob.shape[1]
        maps = torch.stack([labels.masked_fill(~has_label, n_classes), certain, uncertain], dim=1).float()
        nearest = F.interpolate(maps, prob.shape[-2:], mode="nearest").long().movedim(1, 0).flatten(1)
        image = torch.arange(len(labels), device=labels.device).repeat_interleave(nearest.shape[1] // len(labels))
        flat_prob = prob.movedim(1, -1).flatten(0, -2)
        return cls(nearest[0], flat_prob, nearest[1] > 0, nearest[2] > 0, image < n_labeled)

    @property
    def label_prob(self) -> Tensor:
        """(P,) probability of the pixel's own label; meaningless for pixels without a label."""
        labels = self.labels.clamp(max=self.prob.shape[1] - 1)
        return self.prob.gather(1, labels[:, None]).squeeze(1)


def negatives_paper(pixels: Pixels, first_rank: int, last_rank: int) -> Tensor:
    """Which pixels are negatives of which classes, (P, C) bool, by the paper's equations.

    A labeled pixel is a negative of its ``first_rank`` most probable classes except its own. An uncertain unlabeled
    pixel is a negative of the classes that it ranks from ``first_rank`` up to, but not including, ``last_rank``.
    """
    order = pixels.prob.argsort(dim=1, descending=True)
    likely, unlikely = (torch.zeros_like(pixels.prob, dtype=torch.bool) for _ in range(2))
    likely.scatter_(1, order[:, :first_rank], True)
    unlikely.scatter_(1, order[:, first_rank:last_rank], True)
    classes = torch.arange(pixels.prob.shape[1], device=pixels.prob.device)
    has_label = pixels.labels[:, None] < len(classes)
    of_labeled = likely & has_label & (pixels.labels[:, None] != classes)
    return torch.where(pixels.labeled[:, None], of_labeled, unlikely & pixels.uncertain[:, None] & has_label)


def negatives_released(pixels: Pixels, first_rank: int, last_rank: int) -> Tensor:
    """The same by the released code: an uncertain unlabeled pixel is a negative of its own label if that ranks low."""
    n_classes = pixels.prob.shape[1]
    rank = (pixels.prob > pixels.label_prob[:, None]).sum(dim=1)
    chosen = ~pixels.labeled & pixels.uncertain & (rank >= first_rank) & (rank < last_rank)
    classes = torch.arange(n_classes, device=pixels.prob.device)
    return chosen[:, None] & (pixels.labels[:, None] == classes)


def _count_is_free(device: torch.device) -> bool:
    """Whether reading a number from ``device`` needs no host sync and no agreement between processes."""
    return device.type == "cpu" and world_size() == 1


def random_members(member: Tensor, limit: int) -> tuple[Tensor, Tensor]:
    """At most ``limit`` random pixels of every class.

    Args:
        member: (P, C) bool.

    Returns:
        pixel indices (C, K) long, and which of them are valid, (C, K) bool, valid ones first; K at most min(limit, P).
    """
    keys = torch.rand(member.shape, device=member.device).masked_fill(~member, -1.0)
    limit = min(limit, len(member))
    if _count_is_free(member.device):  # gather no more than exist
        limit = min(limit, max(1, int(member.sum(dim=0).max())))
    top = keys.t().topk(limit, dim=1)
    return top.indices, top.values >= 0


def random_anchors(labels: Tensor, candidate: Tensor, n_classes: int, n: int) -> tuple[Tensor, Tensor]:
    """``n`` candidates of every class, drawn with replacement.

    Args:
        labels: (P,) long in [0, C].
        candidate: (P,) bool.

    Returns:
        pixel indices (C, n) long, and the number of candidates (C,) they were drawn from; if 0, they are meaningless.
    """
    key = labels.masked_fill(~candidate, n_classes)
    order = key.argsort()
    count = torch.zeros(n_classes + 1, dtype=torch.long, device=labels.device)
    count.scatter_add_(0, key, torch.ones_like(key))
    begin = count.cumsum(0) - count
    count, begin = count[:-1, None], begin[:-1, None]
    u = torch.rand(n_classes, n, device=labels.device)
    drawn = begin + torch.minimum((u * count).long(), (count - 1).clamp(min=0))
    return order[drawn.clamp(max=len(order) - 1)], count.squeeze(1)


def pick(maps: Tensor, pixels: Tensor) -> Tensor:
    """Vectors of some pixels of maps (N, D, h, w): pixel indices (...) long to (..., D), gathered once."""
    area = maps.shape[-2] * maps.shape[-1]
    return maps.flatten(2).transpose(1, 2)[pixels // area, pixels % area]


def prototypes(maps: Tensor, labels: Tensor, chosen: Tensor, n_classes: int) -> Tensor:
    """Mean vector of the chosen pixels of every class, (C, D) float32; zero for classes without pixels.

    Args:
        maps: (N, D, h, w).
        labels: (P,) long in [0, C].
        chosen: (P,) bool.
    """
    key = labels.masked_fill(~chosen, n_classes).view(len(maps), -1)
    one_hot = (key[:, None] == torch.arange(n_classes, device=key.device)[:, None]).to(maps.dtype)
    total = torch.bmm(one_hot, maps.flatten(2).transpose(1, 2)).sum(dim=0, dtype=torch.float32)
    return total / one_hot.sum(dim=(0, 2), dtype=torch.float32).clamp(min=1)[:, None]


@checked
class PixelContrast(nn.Module):
    """U2PL's contrast: anchors from the student, prototypes and class-wise queues from the teacher.

    Anchors and negatives are first drawn as pixel and row indices and then gathered once; nothing depends on counts
    that would need a host sync.

    Differs from the released code: a class gets at most ``keys_per_class`` new negatives per step and process, drawn
    at random, which keeps their distribution and makes the queue span more steps; queues contain unit vectors; queues
    are part of the checkpoint.

    Args:
        num_classes: C.
        negative_rule: ``paper`` or ``released``, see the functions above.
        ranks: r_l and r_h: an uncertain pixel is a negative of classes with ranks in [r_l, r_h); r_l = 1 suits 2 or 3
            classes.
        positive_set: a prototype is the mean of the ``anchors`` (paper), or of all ``certain`` pixels (code).
        anchors, negatives: number drawn per class, and per anchor.
        queue_size, first_queue_size: queue entries per class, and for class 0.
        keys_per_class: see above; at most the queue size divided by the number of processes.
        dim: channels D of a representation.
        temperature: temperature of the contrast.
        anchor_prob: a pixel may be an anchor if the teacher's probability of its label is above this.
        class_list_bug: the code indexes lists of all classes by positions among the valid ones, so that only class
            indices below the number of valid classes have anchors, some of them against another class's queue.
    Source: Wang et al. 2022 (U2PL), eqs. 4 to 11.
    """

    def __init__(
        self,
        num_classes: Count,
        *,
        negative_rule: Literal["paper", "released"] = "paper",
        ranks: tuple[Index, Index] = (3, 20),
        positive_set: Literal["anchors", "certain"] = "anchors",
        anchors: Count = 256,
        negatives: Count = 50,
        queue_size: Count = 30_000,
        first_queue_size: Count = 50_000,
        keys_per_class: Count = 2048,
        dim: Count = 256,
        temperature: Positive = 0.5,
        anchor_prob: Share = 0.3,
        class_list_bug: bool = False,
    ) -> None:
        super().__init__()
        if ranks[0] >= ranks[1]:
            raise InputError(f"method.contrast.ranks={list(ranks)}: the first rank must be below the second")
        self.negatives_of = negatives_paper if negative_rule == "paper" else negatives_released
        self.ranks, self.positive_set = (ranks[0], ranks[1]), positive_set
        self.anchors, self.negatives, self.keys_per_class = anchors, negatives, keys_per_class
        self.temperature, self.anchor_prob, self.class_list_bug = temperature, anchor_prob, class_list_bug
        self.num_classes, self.dim = num_classes, dim
        self.queues = ClassQueues([first_queue_size, *[queue_size] * (num_classes - 1)], dim)

    def forward(self, pixels: Pixels, student: Tensor, teacher: Tensor) -> Tensor:
        """The loss; only ``student`` receives a gradient.

        Args:
            pixels: all P = N * h * w pixels.
            student, teacher: (N, D, h, w) representations.

        Returns:
            Scalar; exactly 0, with a graph, if fewer than two classes are valid.
        """
        n_classes = self.num_classes
        with torch.no_grad():
            member = self.negatives_of(pixels, *self.ranks)
            new, exists = random_members(member, self.queues.capacity(self.keys_per_class))
            self.queues.push(pick(teacher, new), exists)

            certain = pixels.certain & (pixels.labels < n_classes)
            candidate = certain & (pixels.label_prob > self.anchor_prob)
            anchor, n_anchors = random_anchors(pixels.labels, candidate, n_classes, self.anchors)
            positive_set = candidate if self.positive_set == "anchors" else certain
            positives = prototypes(teacher, pixels.labels, positive_set, n_classes)

            valid = torch.zeros(n_classes + 1, dtype=torch.bool, device=certain.device)
            valid = valid.scatter(0, pixels.labels.masked_fill(~certain, n_classes), True)[:-1]
            n_valid = valid.sum()
            queue = torch.arange(n_classes, device=valid.device)
            usable = valid
            if self.class_list_bug:
                usable = queue < n_valid
                queue = (~valid).long().argsort(stable=True)  # the i-th valid class
            usable = usable & (n_anchors > 0) & (self.queues.count[queue] > 0) & (n_valid > 1)
            rows = self.queues.sample(queue, (self.anchors, self.negatives))
        loss = info_nce(pick(student, anchor), positives, self.queues, rows, self.temperature)
        return torch.where(usable, loss, 0.0).sum() / n_valid.clamp(min=1)
