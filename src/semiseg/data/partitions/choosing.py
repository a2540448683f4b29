"""Choose which images to label: evenly over groups, or over groups and classes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable

import numpy as np
from tqdm import tqdm

from semiseg.data.datasets.base import SegmentationDataset
from semiseg.errors import InputError


def how_many(available: int, count: int | None, fraction: float | None) -> int:
    """Number of images to label, at least 1; a fraction is rounded half up.

    Raises:
        InputError: if none are available, ``fraction`` is outside (0, 1] or ``count`` is outside 1..``available``.
    """
    if not available:
        raise InputError(
            "zero labeled images: no image of the train split has a mask, or all are on the unlabeled list; "
            "with data=folder, at least two images need a mask, one of them for validation"
        )
    if fraction is not None:
        if not 0 < fraction <= 1:
            raise InputError(f"protocol.fraction={fraction}: expected more than 0 and at most 1")
        return max(1, int(fraction * available + 0.5))
    if count is None or not 1 <= count <= available:
        raise InputError(f"protocol.count={count}: expected 1 to {available}, the number of train images with a mask")
    return count


def spread(ids: Iterable[str], count: int, *, group: Callable[[str], str], seed: int = 0) -> list[str]:
    """Choose ``count`` ids: a proportional share from every group, and every n-th of the sorted ids in a group.

    Shares are rounded by largest remainder. ``seed`` shifts the position in each interval, so there are about as many
    different choices as the interval is long.

    Returns:
        Sorted ids.
    """
    members = _by_group(ids, group)
    phase = (0.5 + seed * 0.6180339887498949) % 1  # golden ratio: successive seeds are far apart
    chosen = []
    for name, quota in _quotas({name: len(m) for name, m in members.items()}, count).items():
        step = len(members[name]) / max(quota, 1)
        chosen += [members[name][int((k + phase) * step)] for k in range(quota)]
    return sorted(chosen)


def _by_group(ids: Iterable[str], group: Callable[[str], str]) -> dict[str, list[str]]:
    members: dict[str, list[str]] = {}
    for image_id in sorted(ids):
        members.setdefault(group(image_id), []).append(image_id)
    return dict(sorted(members.items()))


def _quotas(sizes: dict[str, int], count: int) -> dict[str, int]:
    total = sum(sizes.values())
    quotas = {name: count * size // total for name, size in sizes.items()}
    by_remainder = sorted(sizes, key=lambda name: (-(count * sizes[name] % total), name))
    for name in by_remainder[: count - sum(quotas.values())]:
        quotas[name] += 1
    return quotas


def cover_classes(
    dataset: SegmentationDataset, candidates: list[str], count: int, *, seed: int = 0, progress: bool = False
) -> list[str]:
    """Choose ``count`` ids spread over groups and classes. Opens the masks of all candidates.

    Every group gets its share, as in `spread`. Within these shares, images are added one at a time to maximize the
    gain in the sum over classes of log(1 + number of chosen images that show the class). This favors rare classes, and
    the greedy choice is near-optimal because the sum is submodular. ``seed`` breaks ties.

    Returns:
        Sorted ids.
    """
    shows = np.zeros((len(candidates), len(dataset.classes)), bool)
    for row, image_id in enumerate(tqdm(candidates, "reading masks", disable=not progress)):
        seen = np.unique(dataset.load_mask(image_id))
        shows[row, seen[seen < len(dataset.classes)]] = True
    groups = np.array([dataset.group(i) for i in candidates])
    left = Counter(_quotas(dict(sorted(Counter(groups.tolist()).items())), count))
    order = np.random.default_rng(seed).permutation(len(candidates))
    shows, groups = shows[order], groups[order]
    free = np.ones(len(order), bool)
    chosen: list[int] = []
    covered = np.zeros(shows.shape[1])
    for _ in range(count):
        allowed = free & np.isin(groups, [name for name, quota in left.items() if quota > 0])
        gain = shows @ (np.log(covered + 2) - np.log(covered + 1))
        best = int(np.where(allowed, gain, -1).argmax())
        free[best] = False
        left[groups[best].item()] -= 1
        covered += shows[best]
        chosen.append(int(order[best]))
    return sorted(candidates[k] for k in chosen)
