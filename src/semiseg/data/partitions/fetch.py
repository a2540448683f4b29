"""Fetch published list files for a data set, from their public source or from a folder.

Only `fetch_lists` without ``source`` uses the network. Files are verified before they are stored.
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
from semiseg.data.readers.listing import file_is_there
from semiseg.errors import InputError

PUBLIC = "https://raw.githubusercontent.com"
"""Base URL; files are at `<repository>/<commit>/<path>`."""

TIMEOUT = 30  # seconds without a response
KINDS: tuple[Kind, ...] = ("labeled", "unlabeled")

Fetch = Callable[[OfficialPartition, Kind], bytes | None]
"""Returns the verified content of a list; None if there is no file to fetch."""


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

    Lists that already exist are kept. Files are written atomically. A list that cannot be fetched does not stop the
    others from being fetched.

    Args:
        partitions: what to fetch.
        root: the folder of the data set; created if missing.
        source: take the files from this folder (a checkout of one of the repositories, a folder of checkouts, or
            any folder that contains the lists) instead of the network.
        url: where the repositories are served.
        overwrite: replace files that list other images.
        say: called with one line per partition.

    Raises:
        InputError: after all partitions were tried, naming those with a list that is unavailable, has unexpected
            content, or would overwrite a different one; immediately if the network or ``source`` is not available.
    """
    fetch = _from_folder(source) if source is not None else functools.partial(_download, url)
    failed: dict[str, str] = {}
    for partition in partitions:
        try:
            done = [_store(partition, kind, root, fetch, overwrite) for kind in KINDS]
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
    """The server cannot be reached, so the remaining lists are not tried."""


def _store(partition: OfficialPartition, kind: Kind, root: Path, fetch: Fetch, overwrite: bool) -> str:
    """Fetch one list; returns what was done."""
    expected = partition.identity(kind)
    if kind == "unlabeled" and not partition.files(kind):
        return "are the rest of the train split"
    target = list_path(root, partition.name, kind)
    if file_is_there(target):
        if list_sha256(target.read_text(encoding="utf-8-sig", errors="replace")) == expected:
            return "already there"
        if not overwrite:
            raise InputError(
                f"{target} exists and lists other images than {partition.name}; "
                "move it elsewhere, or set overwrite=true to replace it"
            )
    content = fetch(partition, kind)
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
        tried.append(f"{address} (content differs from the published file)")
    raise InputError(f"{partition.name}: no source has its {kind} list: {'; '.join(tried)}")


def _from_folder(source: Path) -> Fetch:
    if not source.is_dir():
        raise InputError(f"source={source}: no such folder")

    @functools.cache
    def by_content() -> dict[str, Path]:
        """Every list below the folder, by the hash of its images."""
        files = [p for pattern in ("*.txt", "*.txt.gz") for p in sorted(source.rglob(pattern))]
        found: dict[str, Path] = {}
        for path in files:
            with contextlib.suppress(InputError):  # a corrupt file, which may not even be a list
                found[list_sha256(_read(path).decode("utf-8-sig", "replace"))] = path
        return found

    def fetch(partition: OfficialPartition, kind: Kind) -> bytes | None:
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
            f"source={source}: no file below it lists the {partition.n_labeled} labeled images of {partition.name}; "
            f"expected a checkout of github.com/{first.repository} with {first.path}"
        )

    return fetch


def _places(source: Path, files: Sequence[ListFile]) -> Iterator[Path]:
    """Possible locations of a file: in a checkout, or in a folder of checkouts, plain or compressed."""
    for file in files:
        name = file.repository.split("/")[1]
        for folder in (source, source / name, source / "files" / name):
            for suffix in ("", ".gz"):
                path = folder / f"{file.path}{suffix}"
                if file_is_there(path):
                    yield path


def _read(path: Path) -> bytes:
    try:
        content = path.read_bytes()
        return gzip.decompress(content) if path.suffix == ".gz" else content
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"{path}: cannot be read ({error})") from error
