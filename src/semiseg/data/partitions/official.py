"""The published partitions, as facts: name, counts, identity, and where the list files come from.

The lists themselves are not in the package (except CamVid's, which nobody else publishes): `semiseg data fetch`
brings them from their public source, see `semiseg.data.partitions.fetch`.
"""

from __future__ import annotations

import functools
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from semiseg.data.partitions.list_files import list_sha256, list_text
from semiseg.errors import InputError

LISTS = Path(__file__).parent / "lists"
"""Lists that come with the package, `<name>.txt`, and the facts."""

FACTS = LISTS / "official.json"
"""Made by `tools/make_official.py`."""

Kind = Literal["labeled", "unlabeled"]


@dataclass(frozen=True)
class ListFile:
    """One published file that holds a list.

    Attributes:
        repository: on GitHub, "LiheYoung/UniMatch".
        commit: full commit id.
        path: path in the repository.
        sha256: of the file.
        line_format: what a line looks like.
    """

    repository: str
    commit: str
    path: str
    sha256: str
    line_format: str


@dataclass(frozen=True)
class OfficialPartition:
    """A published partition.

    Attributes:
        name: "voc/classic_92"; also the name of its protocol.
        data: name of the data set, "voc".
        family: partitions whose results may stand in one table, "voc-classic". Partitions of two families have
            the same sizes but other images.
        n_labeled, n_unlabeled: numbers of images.
        sha256: identity of the labeled set, see `id_set_sha256`.
        unlabeled_sha256: identity of the unlabeled set; None where no list could be read (COCO) or there is
            none (CamVid): the rest of the train split then.
        sources: files with exactly these labeled ids, the one to fetch first; empty for a packaged list.
        unlabeled_sources: files with exactly these unlabeled ids; may be empty.
    """

    name: str
    data: str
    family: str
    n_labeled: int
    n_unlabeled: int
    sha256: str
    unlabeled_sha256: str | None
    sources: tuple[ListFile, ...]
    unlabeled_sources: tuple[ListFile, ...]

    def files(self, kind: Kind) -> tuple[ListFile, ...]:
        """The published files of one kind."""
        return self.sources if kind == "labeled" else self.unlabeled_sources

    def identity(self, kind: Kind) -> str | None:
        """The id-set hash of one kind."""
        return self.sha256 if kind == "labeled" else self.unlabeled_sha256


def official_partitions(data: str | None = None) -> list[OfficialPartition]:
    """The published partitions, of one data set or of all, smallest labeled part first within a family."""
    return [p for p in _facts() if data in (None, p.data)]


def official_partition(name: str | Path) -> OfficialPartition | None:
    """The partition of this name, or None."""
    return next((p for p in _facts() if p.name == str(name)), None)


def official_name(data: str, sha256: str) -> str | None:
    """Name of the published partition of ``data`` whose labeled ids have this hash, or None."""
    return next((p.name for p in _facts() if p.data == data and p.sha256 == sha256), None)


def official_by_unlabeled(data: str, sha256: str) -> OfficialPartition | None:
    """The published partition of ``data`` whose unlabeled ids have this hash, or None."""
    return next((p for p in _facts() if p.data == data and p.unlabeled_sha256 == sha256), None)


def find_official_list(name: str, kind: Kind, root: str | Path | None) -> Path | None:
    """The list file of a published partition on this machine, or None: fetch it then.

    Args:
        name: name of the partition.
        kind: "labeled" or "unlabeled".
        root: the folder of the data set. Fetched lists lie in `partitions/<name>/` of it, or of a folder up to
            two levels above (readers may step into `VOCdevkit/VOC2012`).
    """
    packaged = LISTS / f"{name}.txt"
    if kind == "labeled" and packaged.is_file():
        return packaged
    if root is None:
        return None
    top = Path(root).expanduser().absolute()
    files = (list_path(folder, name, kind) for folder in (top, *top.parents[:2]))
    return next((file for file in files if file.is_file()), None)


def list_path(root: Path, name: str, kind: Kind) -> Path:
    """Where a fetched list lies below the folder of the data set."""
    return root / "partitions" / name / f"{kind}.txt"


def describe(data: str, kind: Kind, sha256: str) -> str:
    """What a list with this hash is, for an error line: "the labeled list of voc/u2pl_1_16 (voc-u2pl)"."""
    what = "labeled" if kind == "labeled" else "unlabeled"
    for partition in official_partitions(data):
        if partition.identity(kind) == sha256:
            return f"the {what} list of {partition.name} (family {partition.family})"
    return f"no published {what} list of {data}"


def check_official_list(partition: OfficialPartition, kind: Kind, path: Path) -> None:
    """Check that a file on disk is the published list.

    Raises:
        InputError: naming the file, what it holds instead, and the command that brings the right one.
    """
    expected = partition.identity(kind)
    found = list_sha256(list_text(path))
    if expected is not None and found != expected:
        command = fetch_command(partition.name, path.parents[3])
        raise InputError(
            f"{path} is not the {kind} list of {partition.name}: it is {describe(partition.data, kind, found)}, "
            f"sha256 {found[:12]} instead of {expected[:12]}; to replace it: {command} overwrite=true"
        )


def fetch_command(name: str, root: str | Path | None = None) -> str:
    """The command that brings the lists of a partition."""
    place = f" data.root={root}" if root else " data.root=DIR"
    return f"semiseg data fetch {name.split('/')[0]} partition={name}{place}"


@functools.cache
def _facts() -> tuple[OfficialPartition, ...]:
    facts = json.loads(FACTS.read_text(encoding="utf-8"))
    return tuple(_partition(entry, facts["repositories"]) for entry in facts["partitions"])


def _partition(entry: dict[str, Any], repositories: dict[str, dict[str, str]]) -> OfficialPartition:
    def files(kind: Kind) -> tuple[ListFile, ...]:
        return tuple(
            ListFile(repositories[repo]["name"], repositories[repo]["commit"], path, sha256, line_format)
            for repo, path, sha256, line_format in entry[kind]["files"]
        )

    return OfficialPartition(
        name=entry["name"],
        data=entry["name"].split("/")[0],
        family=entry["family"],
        n_labeled=entry["labeled"]["count"],
        n_unlabeled=entry["unlabeled"]["count"],
        sha256=entry["labeled"]["sha256"],
        unlabeled_sha256=entry["unlabeled"]["sha256"],
        sources=files("labeled"),
        unlabeled_sources=files("unlabeled"),
    )
