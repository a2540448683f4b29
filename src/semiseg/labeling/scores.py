"""What a network does not know about an image, and which images are unlike each other: pure functions of tensors."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F


def entropy(probs: Tensor) -> Tensor:
    """Mean entropy of the pixels of each image, as a share of the largest possible one.

    Source: Shannon entropy as in uncertainty sampling, Settles 2009, section 3.1.

    Args:
        probs: (B, C, H, W) probabilities, C at least 2.

    Returns:
        (B,) in [0, 1]: 0 where one class has all the probability, 1 where all classes are equally probable.
    """
    return torch.special.entr(probs).sum(1).mean((1, 2)) / math.log(probs.shape[1])


def margin(probs: Tensor) -> Tensor:
    """Mean of 1 - (highest - second highest probability) over the pixels of each image.

    Source: margin sampling, Settles 2009, section 3.1.

    Args:
        probs: (B, C, H, W) probabilities, C at least 2.

    Returns:
        (B,) in [0, 1]: 1 where the two best classes are equally probable.
    """
    best = probs.topk(2, dim=1).values
    return (1 - (best[:, 0] - best[:, 1])).mean((1, 2))


def disagreement(probs_a: Tensor, probs_b: Tensor) -> Tensor:
    """Mean Jensen-Shannon divergence of two predictions over the pixels of each image, in bits.

    Args:
        probs_a: (B, C, H, W) probabilities.
        probs_b: the other opinion on the same pixels.

    Returns:
        (B,) in [0, 1]: 0 for equal predictions, 1 for predictions that share no class.
    """
    between = torch.special.entr((probs_a + probs_b) / 2).sum(1)
    within = (torch.special.entr(probs_a).sum(1) + torch.special.entr(probs_b).sum(1)) / 2
    return ((between - within) / math.log(2)).clamp(0, 1).mean((1, 2))


def pooled(features: Tensor) -> Tensor:
    """(B, D, h, w) -> (B, D): the mean over all places, scaled to length 1."""
    return F.normalize(features.mean((2, 3)), dim=1)


class Picked(NamedTuple):
    """Images in the order of choice.

    Attributes:
        chosen: (K,) long, rows of the candidates.
        distance: (K,) distance to the nearest center at the time of the choice; infinite if there was none.
        nearest: (K,) long, that center: its row among centers and, after them, earlier choices; -1 for none.
        gain: (K,) what was compared: distance times weight.
    """

    chosen: Tensor
    distance: Tensor
    nearest: Tensor
    gain: Tensor


def k_center(candidates: Tensor, centers: Tensor, count: int, weight: Tensor | None = None) -> Picked:
    """Choose images that are far from all centers and from each other, one after the other.

    Each choice is the candidate with the largest product of its distance to the nearest center and its weight; it then
    is a center itself. Without weights this is the greedy 2-approximation of the k-center problem. Of equals the first
    is chosen. Without centers the first choice goes by weight, or is the candidate nearest to the mean of all.

    Source: Sener and Savarese 2018 (ICLR, arXiv 1708.00489), Algorithm 1; the weights are ours.

    Args:
        candidates: (N, D) features.
        centers: (M, D) features of what is labeled already; M may be 0.
        count: how many to choose, K = min(count, N).
        weight: (N,), not negative.

    Returns:
        The choices.
    """
    weight = torch.ones(len(candidates), dtype=candidates.dtype) if weight is None else weight
    distance = torch.full((len(candidates),), math.inf, dtype=candidates.dtype)
    nearest = torch.full((len(candidates),), -1)
    if len(centers):
        distance, nearest = torch.cdist(candidates, centers, compute_mode=EXACT).min(1)
    left = torch.ones(len(candidates), dtype=torch.bool)
    chosen, distances, neighbors, gains = [], [], [], []
    for k in range(min(count, len(candidates))):
        if torch.isinf(distance).all():
            central = -torch.linalg.vector_norm(candidates - candidates.mean(0), dim=1)
            gain = weight if (weight != weight[0]).any() else central
        else:
            gain = distance * weight
        best = int(gain.masked_fill(~left, -math.inf).argmax())
        chosen.append(best)
        distances.append(distance[best])
        neighbors.append(nearest[best])
        gains.append(gain[best])
        left[best] = False
        to_best = torch.cdist(candidates, candidates[best : best + 1], compute_mode=EXACT)[:, 0]
        closer = to_best < distance
        distance, nearest = torch.where(closer, to_best, distance), nearest.masked_fill(closer, len(centers) + k)
    return Picked(torch.tensor(chosen), torch.stack(distances), torch.stack(neighbors), torch.stack(gains))


EXACT = "donot_use_mm_for_euclid_dist"
"""Matrix products lose the distance of near neighbors to rounding."""
