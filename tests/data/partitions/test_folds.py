"""K-fold over the labeled images."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from semiseg.data.partitions.folds import Fold, take_fold
from semiseg.data.partitions.splits import Partition
from semiseg.errors import InputError

LABELED, VAL = tuple(f"a{i}" for i in range(9)), ("b0", "b1", "bare")
PARTITION = Partition(LABELED, ("u0", "u1"), "x", None)


class Data:
    """Ids alone."""

    def __init__(self, group: Callable[[str], str] = lambda _: "") -> None:
        self.group = group

    def has_mask(self, image_id: str) -> bool:
        return image_id != "bare"


def folds(count: int, data: Data | None = None, seed: int = 0) -> list[tuple[Partition, tuple[str, ...], str]]:
    return [take_fold(data or Data(), PARTITION, VAL, Fold(count, k), seed) for k in range(count)]


@pytest.mark.parametrize("count", [2, 3, 5, 11])
def test_every_labeled_image_validates_once(count: int) -> None:
    found = folds(count)
    assert sorted(i for _, val, _ in found for i in val) == sorted([*LABELED, "b0", "b1"])
    sizes = [len(val) for _, val, _ in found]
    assert max(sizes) - min(sizes) <= 1
    for partition, val, _ in found:
        assert not set(partition.labeled) & set(val) and len(partition.labeled) + len(val) == 11
        assert partition.unlabeled == ("u0", "u1")
    assert len({partition.sha256 for partition, _, _ in found}) == count
    assert len({pool for _, _, pool in found}) == 1


def test_another_seed_deals_differently_the_same_one_alike() -> None:
    assert folds(5) == folds(5)
    assert [val for _, val, _ in folds(5)] != [val for _, val, _ in folds(5, seed=1)]


def test_groups_stay_together() -> None:
    data = Data(lambda i: f"{i[0]}{int(i[1]) // 4 if i[1].isdecimal() else 0}")  # a0-a3, a4-a7, a8, b0-b1
    for partition, val, _ in folds(3, data):
        assert not {data.group(i) for i in partition.labeled} & {data.group(i) for i in val}


def test_what_cannot_be_dealt_out_is_refused() -> None:
    with pytest.raises(InputError, match="folds=12: there are 11 labeled images"):
        take_fold(Data(), PARTITION, VAL, Fold(12, 0))
    with pytest.raises(InputError, match="folds=3: there are 2 groups of labeled images"):
        take_fold(Data(lambda i: i[0]), PARTITION, VAL, Fold(3, 0))
    official = Partition(LABELED, (), "x", "voc/classic_92")
    with pytest.raises(InputError, match="voc/classic_92 is a published list"):
        take_fold(Data(), official, VAL, Fold(3, 0))
