"""Which images are labelled and which are not: list files, packaged lists, and choosing new ones.

Nothing here opens an image or a mask, except `spread_over_classes`, which says so.
"""

from __future__ import annotations

import difflib
import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TypedDict

import numpy as np
import yaml
from tqdm import tqdm

from semiseg.data.datasets.base import SegmentationDataset
from semiseg.data.datasets.files import strip_suffix
from semiseg.errors import InputError, suggest

LISTS = Path(__file__).parent / "lists"
"""Packaged lists of labelled ids: `<data>/<partition>.txt`, described in `index.yaml`."""


@dataclass(frozen=True)
class Partition:
    """A train split in two.

    Attributes:
        labeled: sorted ids of the labelled images; never empty.
        unlabeled: sorted ids of the unlabelled images, none of them labelled; may be empty.
        sha256: identity of the labelled set, see `id_set_sha256`.
        official: name and source of the published list with this labelled set, or None.
    """

    labeled: tuple[str, ...]
    unlabeled: tuple[str, ...]
    sha256: str
    official: str | None


class PartitionArgs(TypedDict, total=False):
    """The keys of `protocol` that say how to partition; the arguments of `make_partition`."""

    train_split: str
    labeled: str | Path | None
    unlabeled: str | Path | None
    count: int | None
    fraction: float | None
    seed: int


def make_partition(
    dataset: SegmentationDataset,
    *,
    train_split: str = "train",
    labeled: str | Path | None = None,
    unlabeled: str | Path | None = None,
    count: int | None = None,
    fraction: float | None = None,
    seed: int = 0,
) -> Partition:
    """Partition ``train_split``. Opens no image and no mask.

    Args:
        dataset: where the ids come from.
        train_split: the split to partition.
        labeled: list file of the labelled images, or a packaged list such as "camvid/1_8".
        unlabeled: list file of the unlabelled images; None: the rest of the split.
        count: instead of ``labeled``, how many images to label, of those that have a mask.
        fraction: instead of ``labeled``, which part of the images that have a mask to label, in (0, 1].
        seed: with ``count`` or ``fraction``, another seed shifts the choice.

    Raises:
        InputError: naming file, line and id, for a list that is missing or empty, an id that is not in the
            split, is listed twice or on both lists, and a labelled image without mask; or if not exactly one
            of ``labeled``, ``count`` and ``fraction`` is given.
    """
    partition, problems = find_partition(
        dataset,
        train_split=train_split,
        labeled=labeled,
        unlabeled=unlabeled,
        count=count,
        fraction=fraction,
        seed=seed,
    )
    if problems:
        raise InputError(first_problems(problems))
    return partition


def find_partition(
    dataset: SegmentationDataset,
    *,
    train_split: str = "train",
    labeled: str | Path | None = None,
    unlabeled: str | Path | None = None,
    count: int | None = None,
    fraction: float | None = None,
    seed: int = 0,
) -> tuple[Partition, list[str]]:
    """Partition as `make_partition`, but collect what is wrong with single ids instead of raising.

    Returns:
        The partition of what is right, and one line for each problem. Still raises when there is nothing to
        partition.
    """
    if sum(value is not None for value in (labeled, count, fraction)) != 1:
        raise InputError(
            "set exactly one of protocol.labeled (a list file), protocol.count and protocol.fraction; "
            f"found labeled={labeled}, count={count}, fraction={fraction}"
        )
    ids = dataset.ids(train_split)
    where = f"the {train_split} split of {dataset.name}"
    problems: list[str] = []
    rest: set[str] | None = None
    if unlabeled is not None:
        listed, problems = read_list(_find_list(unlabeled, "unlabeled"), ids, where)
        rest = set(listed)
    if labeled is not None:
        path = _find_list(labeled, "labeled")
        chosen, found = read_list(path, ids, where)
        problems += found
        both = sorted(set(chosen) & (rest or set()))
        problems += [f"'{i}' is on the labelled list {path} and on the unlabelled list {unlabeled}" for i in both]
        if not chosen and not problems:
            raise InputError(f"{path}: zero labelled images; expected one id a line")
        bare = [i for i in chosen if not dataset.has_mask(i)]
        problems += [f"{dataset.locate(i)}: on the labelled list {path} but has no mask" for i in bare]
    else:
        candidates = [i for i in ids if dataset.has_mask(i) and i not in (rest or set())]
        chosen = spread(candidates, how_many(len(candidates), count, fraction), group=dataset.group, seed=seed)
    labelled = sorted(set(chosen))
    rest = (set(ids) if rest is None else rest) - set(labelled)
    sha256 = id_set_sha256(labelled, among=ids)
    official = _official(dataset.name, sha256, prefer=str(labeled))
    return Partition(tuple(labelled), tuple(sorted(rest)), sha256, official), problems


def first_problems(problems: Sequence[str], limit: int = 5) -> str:
    """One line of the first problems, and where to see all."""
    more = len(problems) - limit
    tail = f"; and {more} more, `semiseg data check` names all" if more > 0 else ""
    return "; ".join(problems[:limit]) + tail


def base_name(path: str) -> str:
    """Name of an image in any list format: no folders, no image suffix, no `_leftImg8bit`."""
    return strip_suffix(PurePosixPath(path).name).removesuffix("_leftImg8bit")


def id_set_sha256(ids: Iterable[str], *, among: Iterable[str] = ()) -> str:
    """Identity of a set of images: sha256 of the sorted unique ids, joined by newlines.

    Base names are hashed, so that the same images give the same value whatever the order and line format of a
    list. Where base names do not tell the images ``among`` apart (`a/001`, `b/001`), full ids are hashed
    instead.
    """
    known = set(among)
    by_name = len({base_name(i) for i in known}) == len(known)
    names = {base_name(i) if by_name else i for i in ids}
    return hashlib.sha256("\n".join(sorted(names)).encode()).hexdigest()


def read_list(path: Path, ids: Sequence[str], where: str) -> tuple[list[str], list[str]]:
    """Read a list file and find its lines among ``ids``.

    A line is an id, or an image path with or without suffix, leading slash or outer folders, and after it,
    separated by white space, anything (the mask path of other code bases). Blank lines are passed over.

    Returns:
        The ids in the order of the file, and one line for each id that is unknown or listed twice.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except OSError as error:
        raise InputError(f"{path}: list file cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not a text file; expected one id a line") from error
    known = set(ids)
    by_name: dict[str, list[str]] = {}
    for image_id in ids:
        by_name.setdefault(base_name(image_id), []).append(image_id)
    seen: dict[str, int] = {}
    problems: list[str] = []
    for number, line in enumerate(lines, 1):
        text = line.strip()
        if not text:
            continue
        match = _find_id(text, known, by_name)
        if match is None:
            # The nearest match is slow to find in a long list, and nobody reads a hundred of them.
            near = difflib.get_close_matches(base_name(text.split()[0]), by_name, n=1) if len(problems) < 5 else []
            hint = f"; did you mean '{by_name[near[0]][0]}'?" if near else ""
            problems.append(f"{path}, line {number}: '{text}' is not in {where}{hint}")
        elif match in seen:
            problems.append(f"{path}, line {number}: duplicate id '{match}', also on line {seen[match]}")
        else:
            seen[match] = number
    return list(seen), problems


def _find_id(text: str, known: set[str], by_name: dict[str, list[str]]) -> str | None:
    for entry in (text, text.split()[0]):  # the whole line first: a name may hold spaces
        path = entry.lstrip("/")
        for candidate in (path, strip_suffix(path)):
            if candidate in known:
                return candidate
        matches = by_name.get(base_name(path), [])
        if len(matches) > 1:
            matches = [i for i in matches if f"/{strip_suffix(path)}".endswith(f"/{i}")]
        if len(matches) == 1:
            return matches[0]
    return None


def how_many(available: int, count: int | None, fraction: float | None) -> int:
    """Number of images to label, at least 1; a fraction is rounded half up.

    Raises:
        InputError: if none is available, ``fraction`` is outside (0, 1] or ``count`` outside
            1..``available``.
    """
    if not available:
        raise InputError(
            "zero labelled images: no image of the train split has a mask, or all are on the unlabelled list"
        )
    if fraction is not None:
        if not 0 < fraction <= 1:
            raise InputError(f"protocol.fraction={fraction}: expected more than 0 and at most 1")
        return max(1, int(fraction * available + 0.5))
    if count is None or not 1 <= count <= available:
        raise InputError(
            f"protocol.count={count}: expected 1 to {available}, the images of the train split with a mask"
        )
    return count


def spread(ids: Iterable[str], count: int, *, group: Callable[[str], str], seed: int = 0) -> list[str]:
    """Choose ``count`` ids, from every group its share and within a group every n-th of the sorted ids.

    Shares are rounded by largest remainder. ``seed`` shifts where in its interval each image is taken, so
    there are about as many different choices as the interval is long.

    Returns:
        Sorted ids.
    """
    members = _by_group(ids, group)
    phase = (0.5 + seed * 0.6180339887498949) % 1  # golden ratio: successive seeds fall far apart
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


def spread_over_classes(
    dataset: SegmentationDataset,
    *,
    train_split: str = "train",
    count: int | None = None,
    fraction: float | None = None,
    seed: int = 0,
    progress: bool = False,
) -> Partition:
    """Choose labelled images spread over groups and classes. Opens all masks of the split.

    Every group gets its share, as in `spread`. Within that, images are added one by one so that the sum over
    classes of log(1 + number of chosen images that show the class) grows most: rare classes count most, and
    the greedy choice is near the best one because the sum is submodular. ``seed`` decides between equals.
    """
    ids = dataset.ids(train_split)
    candidates = [i for i in ids if dataset.has_mask(i)]
    number = how_many(len(candidates), count, fraction)
    shows = np.zeros((len(candidates), len(dataset.classes)), bool)
    for row, image_id in enumerate(tqdm(candidates, "reading masks", disable=not progress)):
        seen = np.unique(dataset.load_mask(image_id))
        shows[row, seen[seen < len(dataset.classes)]] = True
    groups = np.array([dataset.group(i) for i in candidates])
    left = Counter(_quotas(dict(sorted(Counter(groups.tolist()).items())), number))
    order = np.random.default_rng(seed).permutation(len(candidates))
    shows, groups = shows[order], groups[order]
    free = np.ones(len(order), bool)
    chosen: list[int] = []
    covered = np.zeros(shows.shape[1])
    for _ in range(number):
        allowed = free & np.isin(groups, [name for name, quota in left.items() if quota > 0])
        gain = shows @ (np.log(covered + 2) - np.log(covered + 1))
        best = int(np.where(allowed, gain, -1).argmax())
        free[best] = False
        left[groups[best].item()] -= 1
        covered += shows[best]
        chosen.append(int(order[best]))
    labelled = sorted(candidates[k] for k in chosen)
    sha256 = id_set_sha256(labelled, among=ids)
    rest = tuple(sorted(set(ids) - set(labelled)))
    return Partition(tuple(labelled), rest, sha256, _official(dataset.name, sha256))


def write_lists(folder: Path, partition: Partition, *, val: Sequence[str] = ()) -> list[Path]:
    """Write `labeled.txt` and `unlabeled.txt`, and `val.txt` if ``val`` is given, one id a line.

    Returns:
        The files. They can be given as protocol.labeled and protocol.unlabeled.

    Raises:
        InputError: if one of them exists (nothing is written then), or the folder cannot be written to.
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


@dataclass(frozen=True)
class PackagedList:
    """An entry of `lists/index.yaml`: ``name`` is `<data>/<partition>`, ``source`` who published it."""

    name: str
    count: int
    sha256: str
    source: str

    @property
    def path(self) -> Path:
        """The file with the labelled ids."""
        return LISTS / f"{self.name}.txt"


def packaged_lists() -> list[PackagedList]:
    """The lists that come with the package."""
    return [PackagedList(**entry) for entry in yaml.safe_load((LISTS / "index.yaml").read_text(encoding="utf-8"))]


def _find_list(name: str | Path, key: str) -> Path:
    packaged = {entry.name: entry for entry in packaged_lists()}
    if str(name) in packaged:
        return packaged[str(name)].path
    path = Path(name).expanduser()
    if not path.is_file():
        raise InputError(
            f"protocol.{key}={name}: neither a list file nor a packaged list: {suggest(str(name), packaged)}"
        )
    return path


def _official(data: str, sha256: str, prefer: str = "") -> str | None:
    same = [e for e in packaged_lists() if e.sha256 == sha256 and e.name.startswith(f"{data}/")]
    same.sort(key=lambda entry: entry.name != prefer)  # the list that was asked for first, if sets are equal
    return f"{same[0].name} ({same[0].source})" if same else None
