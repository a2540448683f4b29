"""Decide which images are labeled.

Nothing here opens an image or a mask, except `spread_over_classes`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypedDict, Unpack

from semiseg.data.datasets.base import SegmentationDataset
from semiseg.data.partitions.choosing import cover_classes, how_many, spread
from semiseg.data.partitions.list_files import id_set_sha256, list_text, read_list
from semiseg.data.partitions.official import (
    Kind,
    check_official_list,
    fetch_command,
    find_official_list,
    list_path,
    official_by_unlabeled,
    official_name,
    official_partition,
    official_partitions,
)
from semiseg.data.readers.listing import file_is_there
from semiseg.errors import InputError, suggest


@dataclass(frozen=True)
class Partition:
    """A train split divided into labeled and unlabeled images.

    Attributes:
        labeled: sorted ids of the labeled images; never empty.
        unlabeled: sorted ids of the unlabeled images, none of them labeled; may be empty.
        sha256: identity of the labeled set, see `id_set_sha256`.
        official: name of the published partition with this labeled set, or None.
        own_lists: the labeled or unlabeled images come from a list file that is not a published list.
    """

    labeled: tuple[str, ...]
    unlabeled: tuple[str, ...]
    sha256: str
    official: str | None
    own_lists: bool = field(default=False, compare=False)

    @property
    def list_name(self) -> str:
        """Name used in results: the published name, or ``custom_`` and 8 hex digits of the hash of both lists."""
        if self.official is not None and not self.own_lists:
            return self.official
        both = "\n".join(["labeled", *self.labeled, "unlabeled", *self.unlabeled])
        return f"custom_{hashlib.sha256(both.encode()).hexdigest()[:8]}"


class PartitionArgs(TypedDict, total=False):
    """The keys of `protocol` that define the partition; the arguments of `make_partition`.

    Attributes:
        name: name of the protocol; if it is a published partition, other published lists are rejected.
        train_split: the split to partition, "train" by default.
        labeled: list file of the labeled images, or the name of a published partition such as "camvid/1_8".
        unlabeled: list file of the unlabeled images, or such a name; None: the rest of the split.
        count: instead of ``labeled``, the number of images with a mask to label.
        fraction: instead of ``labeled``, the fraction of images with a mask to label, in (0, 1]; 1 gives way to
            ``labeled`` and ``count``.
        seed: with ``count`` or ``fraction``, another seed shifts the choice.
    """

    name: str | None
    train_split: str
    labeled: str | Path | None
    unlabeled: str | Path | None
    count: int | None
    fraction: float | None
    seed: int


def make_partition(dataset: SegmentationDataset, **args: Unpack[PartitionArgs]) -> Partition:
    """Partition a train split. Opens no image and no mask.

    Args:
        dataset: source of the ids.
        args: see `PartitionArgs`.

    Raises:
        InputError: naming file, line and id, if a list is missing or empty, if an id is not in the split, is listed
            twice or is on both lists, or if a labeled image has no mask; if a published list does not match its name,
            or the lists belong to two published partitions; or unless exactly one of ``labeled``, ``count`` and
            ``fraction`` is given.
    """
    partition, problems = find_partition(dataset, **args)
    if problems:
        raise InputError(first_problems(problems))
    return partition


def find_partition(
    dataset: SegmentationDataset,
    *,
    name: str | None = None,
    train_split: str = "train",
    labeled: str | Path | None = None,
    unlabeled: str | Path | None = None,
    count: int | None = None,
    fraction: float | None = None,
    seed: int = 0,
) -> tuple[Partition, list[str]]:
    """Like `make_partition`, but collect problems with individual ids instead of raising.

    Returns:
        The partition of the valid ids, and one line per problem. Still raises if there is nothing to partition, or if
        the lists do not belong together.
    """
    if fraction == 1 and (labeled is not None or count is not None):
        fraction = None  # protocol=folder/all and the user's own list or count
    if sum(value is not None for value in (labeled, count, fraction)) != 1:
        raise InputError(
            "set exactly one of protocol.labeled (a list file), protocol.count and protocol.fraction; "
            f"found labeled={labeled}, count={count}, fraction={fraction}; set the others to null"
        )
    ids = dataset.ids(train_split)
    where = f"the {train_split} split of {dataset.name}"
    problems: list[str] = []
    listed: set[str] | None = None
    unlabeled_file = _list_file(dataset, unlabeled, "unlabeled") if unlabeled is not None else None
    if unlabeled_file is not None:
        found, problems = _read(unlabeled_file, str(unlabeled), ids, where)
        listed = set(found)
    if labeled is not None:
        path = _list_file(dataset, labeled, "labeled")
        assert path is not None
        chosen, found_problems = _read(path, str(labeled), ids, where)
        problems += found_problems
        _check_families(dataset.name, name, chosen, listed)
        both = sorted(set(chosen) & (listed or set()))
        problems += [f"'{i}' is on the labeled list {path} and on the unlabeled list {unlabeled_file}" for i in both]
        if not chosen and not problems:
            raise InputError(f"{path}: zero labeled images; expected one id per line")
        bare = [i for i in chosen if not dataset.has_mask(i)]
        problems += [f"{dataset.locate(i)}: on the labeled list {path} but has no mask" for i in bare]
    else:
        candidates = [i for i in ids if dataset.has_mask(i) and i not in (listed or set())]
        chosen = spread(candidates, how_many(len(candidates), count, fraction), group=dataset.group, seed=seed)
    train_ids = sorted(set(chosen))
    rest = sorted((set(ids) if listed is None else listed) - set(train_ids))
    if unlabeled is not None and unlabeled_file is None and not problems:
        _check_rest(dataset, str(unlabeled), rest, where)
    sha256 = id_set_sha256(train_ids, among=ids)
    official = official_name(dataset.name, sha256)
    own = labeled is not None and official is None
    if listed is not None and official_partition(str(unlabeled)) is None:
        all_others = set(rest) == set(ids) - set(train_ids)
        own |= not all_others and official_by_unlabeled(dataset.name, id_set_sha256(listed)) is None
    return Partition(tuple(train_ids), tuple(rest), sha256, official, own), problems


def _list_file(dataset: SegmentationDataset, name: str | Path, kind: Kind) -> Path | None:
    """The file of a list given by path or by the name of a published partition.

    None for a published unlabeled list that is not on this machine; the rest of the split may be the same set.
    """
    partition = official_partition(name)
    if partition is None:
        path = Path(name).expanduser()
        if file_is_there(path):
            return path
        known = [p.name for p in official_partitions(dataset.name) or official_partitions()]
        raise InputError(
            f"protocol.{kind}={name}: neither a list file nor a published partition: {suggest(str(name), known)}"
        )
    root = getattr(dataset, "root", None)
    found = find_official_list(partition.name, kind, root)
    if found is not None:
        check_official_list(partition, kind, found)
    elif kind == "labeled":
        raise InputError(
            f"protocol.labeled={name}: no list at {list_path(Path(root or 'DIR'), partition.name, kind)}; "
            f"to fetch it: {fetch_command(partition.name, root)}"
        )
    return found


def _read(path: Path, name: str, ids: Sequence[str], where: str) -> tuple[list[str], list[str]]:
    """Read a list; if images of a published list are missing, the first problem line says how many."""
    found, problems = read_list(path, ids, where)
    if problems and official_partition(name) is not None:
        total = len({line for line in list_text(path).splitlines() if line.strip()})
        missing = total - len(found)
        problems.insert(0, f"{missing} of the {total} images of {path} are missing: is the data set complete?")
    return found, problems


def _check_families(data: str, name: str | None, labeled: Sequence[str], listed: set[str] | None) -> None:
    """Reject a published labeled list under another partition's name, or with another partition's unlabeled list."""
    mine = official_partition(official_name(data, id_set_sha256(labeled)) or "")
    if mine is None:
        return
    wanted = official_partition(name or "")
    if wanted is not None and wanted != mine:
        raise InputError(
            f"protocol={wanted.name} (family {wanted.family}), but protocol.labeled is the list of {mine.name} "
            f"(family {mine.family}): choose protocol={mine.name}, or another protocol.labeled"
        )
    other = None if listed is None else official_by_unlabeled(data, id_set_sha256(listed))
    if other is not None and other != mine:
        raise InputError(
            f"protocol.labeled is the list of {mine.name} (family {mine.family}), but protocol.unlabeled that of "
            f"{other.name} (family {other.family}): take both from one, for example protocol={mine.name}"
        )


def _check_rest(dataset: SegmentationDataset, name: str, rest: Sequence[str], where: str) -> None:
    """Check that the rest of the split is the published unlabeled list when its file is not on this machine."""
    partition = official_partition(name)
    assert partition is not None
    expected = partition.unlabeled_sha256
    same = len(rest) == partition.n_unlabeled if expected is None else id_set_sha256(rest) == expected
    if same:
        return
    fetch = f"to fetch the list: {fetch_command(name, getattr(dataset, 'root', None))}; " if expected else ""
    raise InputError(
        f"protocol.unlabeled={name}: {partition.n_unlabeled} published images, but the rest of {where} has "
        f"{len(rest)}{' other' if len(rest) == partition.n_unlabeled else ''}; {fetch}"
        "protocol.unlabeled=null uses the images that are there"
    )


def first_problems(problems: Sequence[str], limit: int = 5) -> str:
    """One line with the first problems, and how to list all."""
    more = len(problems) - limit
    tail = f"; and {more} more, `semiseg data check` lists all" if more > 0 else ""
    return "; ".join(problems[:limit]) + tail


def spread_over_classes(
    dataset: SegmentationDataset,
    *,
    train_split: str = "train",
    count: int | None = None,
    fraction: float | None = None,
    seed: int = 0,
    progress: bool = False,
) -> Partition:
    """Partition with labeled images spread over groups and classes. Opens all masks of the split."""
    ids = dataset.ids(train_split)
    candidates = [i for i in ids if dataset.has_mask(i)]
    number = how_many(len(candidates), count, fraction)
    labeled = cover_classes(dataset, candidates, number, seed=seed, progress=progress)
    sha256 = id_set_sha256(labeled, among=ids)
    rest = tuple(sorted(set(ids) - set(labeled)))
    return Partition(tuple(labeled), rest, sha256, official_name(dataset.name, sha256))


def write_lists(folder: Path, partition: Partition, *, val: Sequence[str] = ()) -> list[Path]:
    """Write `labeled.txt` and `unlabeled.txt`, and `val.txt` if ``val`` is given, with one id per line.

    Returns:
        The files, which can be used as protocol.labeled and protocol.unlabeled.

    Raises:
        InputError: if one of them exists (then nothing is written), or the folder cannot be written to.
    """
    lists = {"labeled.txt": partition.labeled, "unlabeled.txt": partition.unlabeled}
    if val:
        lists["val.txt"] = tuple(val)
    present = [name for name in lists if (folder / name).exists()]
    if present:
        raise InputError(f"{folder / present[0]} exists and is not overwritten; choose another folder or remove it")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, ids in lists.items():
            (folder / name).write_text("".join(f"{i}\n" for i in ids), encoding="utf-8")
    except OSError as error:
        raise InputError(f"{folder}: cannot be written to ({error.strerror})") from error
    return [folder / name for name in lists]
