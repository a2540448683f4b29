"""Implicit feature augmentation (ISDA) with a diagonal covariance per class: statistics and logit shift."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from semiseg.ops.distributed import total
from semiseg.ops.losses import IGNORE


class ClassStatistics(nn.Module):
    """Mean and variance of every feature channel within each class, over all pixels seen so far.

    There is no forgetting: after any number of updates these are the statistics of the union of all pixels. A class
    that was never seen has variance 0. The state is kept in buffers, so it is part of the checkpoint.

    Args:
        num_classes: C.
        channels: feature channels A.
        sync: use the pixels of all processes; False: each process uses its own, as in the MKD code. (Lightning's DDP
            broadcasts the buffers of rank 0 to all ranks before every step; the MKD code disables that.)
    Source: Wang et al. 2019 (ISDA), the online estimate; MKD, released code.
    """

    mean: Tensor  # (C, A) float32
    variance: Tensor  # (C, A) float32, population variance
    count: Tensor  # (C,) float32, pixels seen

    def __init__(self, num_classes: int, channels: int, *, sync: bool = False) -> None:
        super().__init__()
        self.sync = sync
        self.register_buffer("mean", torch.zeros(num_classes, channels))
        self.register_buffer("variance", torch.zeros(num_classes, channels))
        self.register_buffer("count", torch.zeros(num_classes))

    @torch.no_grad()
    def update(self, features: Tensor, labels: Tensor) -> None:
        """Add pixels, in float32 even under autocast.

        Args:
            features: (B, A, h, w) float.
            labels: (B, h, w) long in [0, C) or ``IGNORE``, which is not counted.
        """
        with torch.autocast(features.device.type, enabled=False):
            classes = torch.arange(len(self.count), device=labels.device)
            one_hot = (labels.flatten(1).unsqueeze(2) == classes).float()  # (B, h * w, C), zero where ignored
            x = features.float().flatten(2)  # (B, A, h * w)
            new = self._all(one_hot.sum((0, 1)))
            n = new.clamp(min=1)
            mean = self._all((x @ one_hot).sum(0)) / n  # (A, C)
            # Two passes: the mean of squares minus the squared mean would suffer from cancellation.
            centered = torch.baddbmm(x, mean.expand(len(x), -1, -1), one_hot.mT, alpha=-1)
            variance = self._all((centered.square() @ one_hot).sum(0)) / n
            share = (new / (new + self.count).clamp(min=1)).unsqueeze(1)
            between = share * (1 - share) * (mean.T - self.mean).square()
            self.variance.lerp_(variance.T, share).add_(between)
            self.mean.lerp_(mean.T, share)
            self.count.add_(new)

    @torch.no_grad()
    def table(self, weight: Tensor) -> Tensor:
        """T[y, j] = sum_a (w_ja - w_ya)^2 v_ya: variance of logit j minus logit y over features of class y.

        Args:
            weight: (C, A) classifier weights.

        Returns:
            (C, C) float32, zero on the diagonal, never negative.
        """
        weight = weight.float()
        difference = weight.unsqueeze(0) - weight.unsqueeze(1)  # [y, j]
        # An explicit sum: a matrix product would run in half precision under autocast.
        return (difference.square() * self.variance.unsqueeze(1)).sum(2)

    def _all(self, x: Tensor) -> Tensor:
        return total(x) if self.sync else x


@torch.no_grad()
def logit_shift(table: Tensor, labels: Tensor, strength: float) -> Tensor:
    """The logit shift of implicit augmentation: strength / 2 * T[y], a row of the table for every pixel.

    ``cross_entropy(logits + logit_shift(...), labels)`` bounds the expected cross-entropy under features drawn from
    N(f, strength * diag(v_y)) from above. The logit of class y itself never changes, the others can only grow.

    Args:
        table: (C, C) float, from :meth:`ClassStatistics.table`.
        labels: (B, h, w) long in [0, C) or ``IGNORE``, for which the shift is 0.
        strength: lambda, at least 0.

    Returns:
        (B, C, h, w) float.
    Source: Wang et al. 2019 (ISDA). MKD's code expands it to (pixels, C, A), although it depends only on the pair of
        classes.
    """
    rows = F.pad(0.5 * strength * table, (0, 0, 0, 1))  # a row of zeros for ignored pixels
    return F.embedding(labels.masked_fill(labels == IGNORE, len(table)), rows).movedim(-1, 1)


def augmented_logits(
    classifier: nn.Conv2d,
    labeled: Tensor,
    unlabeled: Tensor,
    labels: Tensor,
    statistics: ClassStatistics | None,
    strength: float,
) -> tuple[Tensor, Tensor]:
    """Logits of a 1x1 classifier with and without feature augmentation, both (B_l + B_u, C, h, w) float32.

    The class of a pixel is its label, or in unlabeled images the classifier's prediction. The statistics are first
    updated with the labeled part, so its shift does not depend on the unlabeled part.

    Args:
        classifier: 1x1 convolution, A to C channels.
        labeled, unlabeled: (B_l, A, h, w) and (B_u, A, h, w) maps of labeled and unlabeled images.
        labels: (B_l, h, w) long in [0, C) or ``IGNORE``.
        statistics: statistics of these features, updated here; None: no augmentation.
        strength: see :func:`logit_shift`.
    """
    plain = classifier(torch.cat([labeled, unlabeled])).float()
    if statistics is None:
        return plain, plain
    shifts = []
    for x, y in ((labeled, labels), (unlabeled, plain[len(labels) :].argmax(1))):
        statistics.update(x, y)
        shifts.append(logit_shift(statistics.table(classifier.weight.flatten(1)), y, strength))
    return plain + torch.cat(shifts), plain
