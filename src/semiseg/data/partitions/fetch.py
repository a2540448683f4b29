"""Bringing published list files to a data set: from their public source, or from a folder.

Only `fetch_lists` without ``source`` touches the network. What arrives is checked before it is stored.
"""

from __future__ import annotations

import contextlib
import functools
import gzip
import hashlib
import os
import urllib.error
import urllib.request
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from semiseg.data.partitions.list_files import list_sha256
from semiseg.data.partitions.official import Kind, ListFile, OfficialPartition, list_path
from semiseg.errors import InputError

PUBLIC = "https://raw.githubusercontent.com"
"""Files lie under `<repository>/<commit>/<path>`."""

TIMEOUT = 30  # seconds without an answer
KINDS: tuple[Kind, ...] = ("labeled", "unlabeled")

Bring = Callable[[OfficialPartition, Kind], bytes | None]
"""Returns the content of a list, checked; None when there is no file to bring."""


def fetch_lists(
    partitions: Sequence[OfficialPartition],
    root: Path,
    *,
    source: Path | None = None,
    url: str = PUBLIC,
    overwrite: bool = False,
    say: Callable[[str], None] = print,
) -> None:
    """Store the lists of ``partitions`` as `<root>/partitions/<name>/{labeled,unlabeled}.txt`.

    A list that is there already is left alone. Files appear whole or not at all. A list that cannot be had does not
    keep the others from being brought.

    Args:
        partitions: what to bring.
        root: the folder of the data set; made when it is not there.
        source: take the files from this folder (a checkout of one of the repositories, a folder of checkouts, or
            any folder with the lists in it) instead of the network.
        url: where the repositories are served.
        overwrite: replace files that hold other images.
        say: takes one line for each partition.

    Raises:
        InputError: after all partitions were tried, naming those of which a list cannot be had, is not what it should
            be, or would overwrite one that differs; at once when there is no network or no ``source``.
    """
    bring = _from_folder(source) if source is not None else functools.partial(_download, url)
    failed: dict[str, str] = {}
    for partition in partitions:
        try:
            done = [_store(partition, kind, root, bring, overwrite) for kind in KINDS]
        except _NoNetwork:
            raise
        except InputError as error:
            failed[partition.name] = str(error)
            say(f"{partition.name}: failed")
            continue
        say(f"{partition.name}: {partition.n_labeled} labeled {done[0]}, {partition.n_unlabeled} unlabeled {done[1]}")
    if failed:
        first = next(iter(failed.values()))
        others = f" (the others: {', '.join(list(failed)[1:])})" if len(failed) > 1 else ""
        raise InputError(f"{len(failed)} of {len(partitions)} partitions failed; {first}{others}")


class _NoNetwork(InputError):
    """The server cannot be reached: no other list will come from it."""


def _store(partition: OfficialPartition, kind: Kind, root: Path, bring: Bring, overwrite: bool) -> str:
    """Bring one list; says what was done."""
    expected = partition.identity(kind)
    if kind == "unlabeled" and not partition.files(kind):
        return "are the rest of the train split"
    target = list_path(root, partition.name, kind)
    if target.exists():
        if list_sha256(target.read_text(encoding="utf-8-sig", errors="replace")) == expected:
            return "there already"
        if not overwrite:
            raise InputError(
                f"{target} exists and holds other images than {partition.name}; "
                "move it away, or overwrite=true to replace it"
            )
    content = bring(partition, kind)
    if content is None:
        return "not found there (needed unless they are the rest of the train split)"
    _write(target, content)
    return "stored"


def _write(target: Path, content: bytes) -> None:
    part = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        part.write_bytes(content)
        part.replace(target)
    except OSError as error:
        raise InputError(f"{target}: cannot be written ({error.strerror})") from error
    finally:
        part.unlink(missing_ok=True)


def _download(url: str, partition: OfficialPartition, kind: Kind) -> bytes:
    tried = []
    for file in partition.files(kind):
        address = f"{url}/{file.repository}/{file.commit}/{file.path}"
        try:
            with urllib.request.urlopen(address, timeout=TIMEOUT) as answer:
                content = answer.read()
        except urllib.error.HTTPError as error:
            tried.append(f"{address} ({error.code} {error.reason})")
            continue
        except (OSError, ValueError) as error:
            reason = getattr(error, "reason", None) or error
            raise _NoNetwork(
                f"{address} cannot be reached ({reason}); without a network: source=DIR with a checkout of "
                f"github.com/{file.repository}"
            ) from error
        if hashlib.sha256(content).hexdigest() == file.sha256:
            return content
        tried.append(f"{address} (another content than was published)")
    raise InputError(f"{partition.name}: no source has its {kind} list: {'; '.join(tried)}")


def _from_folder(source: Path) -> Bring:
    if not source.is_dir():
        raise InputError(f"source={source}: no such folder")

    @functools.cache
    def by_content() -> dict[str, Path]:
        """Every list below the folder, by the images on it."""
        files = [p for pattern in ("*.txt", "*.txt.gz") for p in sorted(source.rglob(pattern))]
        found: dict[str, Path] = {}
        for path in files:
            with contextlib.suppress(InputError):  # a damaged file that may not even be a list
                found[list_sha256(_read(path).decode("utf-8-sig", "replace"))] = path
        return found

    def bring(partition: OfficialPartition, kind: Kind) -> bytes | None:
        expected = partition.identity(kind)
        for path in _places(source, partition.files(kind)):
            content = _read(path)
            if list_sha256(content.decode("utf-8-sig", "replace")) == expected:
                return content
        if expected in by_content():
            return _read(by_content()[expected])
        if kind == "unlabeled":
            return None
        first = partition.files(kind)[0]
        raise InputError(
            f"source={source}: no file below it holds the {partition.n_labeled} labeled images of {partition.name}; "
            f"expected a checkout of github.com/{first.repository} with {first.path}"
        )

    return bring


def _places(source: Path, files: Sequence[ListFile]) -> Iterator[Path]:
    """Where a file may lie: in a checkout, or in a folder of checkouts, plain or compressed."""
    for file in files:
        name = file.repository.split("/")[1]
        for folder in (source, source / name, source / "files" / name):
            for suffix in ("", ".gz"):
                path = folder / f"{file.path}{suffix}"
                if path.is_file():
                    yield path


def _read(path: Path) -> bytes:
    try:
        content = path.read_bytes()
        return gzip.decompress(content) if path.suffix == ".gz" else content
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"{path}: cannot be read ({error})") from error
