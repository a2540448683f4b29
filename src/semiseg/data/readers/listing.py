"""Find image files. Nothing here opens one."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Collection, Iterable
from pathlib import Path

from semiseg.errors import InputError

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp", ".ppm", ".pgm", ".pbm", ".gif"})
"""Suffixes of images, case-insensitive: for training, evaluation, prediction and checks alike."""


def file_is_there(path: Path) -> bool:
    """Whether a file is there; False for a folder, as for nothing.

    Raises:
        InputError: a pipe, a socket or a device has its name: reading that may wait without end.
    """
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError):
        return False
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        raise InputError(f"{printable(path)}: a pipe, a socket or a device, expected a file")
    return stat.S_ISREG(mode)


def several(items: Iterable[object], limit: int = 5) -> str:
    """Join up to ``limit`` items with commas, then say how many more there are."""
    texts = [str(item) for item in items]
    more = f" and {len(texts) - limit} more" if len(texts) > limit else ""
    return ", ".join(texts[:limit]) + more


def strip_suffix(name: str) -> str:
    """Drop an image suffix; other dots are part of the name (``frame.0012`` is kept)."""
    stem, suffix = os.path.splitext(name)
    return stem if suffix.lower() in IMAGE_SUFFIXES else name


def printable(path: str | Path) -> str:
    r"""The path as text; bytes that are not UTF-8 become ``\xff``."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def is_utf8(path: str | Path) -> bool:
    """Whether a file name can be written into lists, records and tables."""
    return printable(path) == str(path)


def find_files(
    folder: Path,
    *,
    recursive: bool = True,
    skip: Collection[Path] = (),
    wanted: Callable[[str], bool] = lambda name: True,
) -> list[Path]:
    """All files in ``folder`` except hidden ones. Symbolic links are followed; each folder is visited once.

    Args:
        folder: may be missing, which gives no files.
        recursive: also search subfolders, except hidden ones.
        skip: resolved paths of folders that are not searched.
        wanted: whether to include a file of this name.

    Returns:
        Paths; files of a folder come before those of its subfolders.

    Raises:
        InputError: if a folder cannot be listed.
    """
    files = _files(folder, recursive=recursive, skip=skip, wanted=wanted)
    return [current / name for current, names in files for name in names]


def find_images(folder: Path, *, recursive: bool = True, skip: Collection[Path] = ()) -> list[Path]:
    """The files of `find_files` that have an image suffix."""
    return find_files(folder, recursive=recursive, skip=skip, wanted=is_image_name)


def is_image_name(name: str) -> bool:
    """Whether a file name has an image suffix."""
    return os.path.splitext(name)[1].lower() in IMAGE_SUFFIXES


def list_images(folder: Path, *, recursive: bool = False) -> dict[str, Path]:
    """Find the images in ``folder``, without hidden files.

    Returns:
        Path by id, sorted by id. The id is the path below ``folder`` without suffix, with ``/`` between folders.

    Raises:
        InputError: if two files have the same id (``a.jpg`` and ``a.png``), or a name is not UTF-8.
    """
    found: dict[str, Path] = {}
    clashes: list[str] = []
    files = _files(folder, recursive=recursive, wanted=is_image_name)
    unreadable = [
        printable(current / name)
        for current, names in files
        for name in (names if not is_utf8(current) else [n for n in names if not n.isascii() and not is_utf8(n)])
    ]
    if unreadable:
        raise InputError(f"file name is not UTF-8: {several(unreadable)}; rename the file")
    for current, names in files:
        below = current.relative_to(folder).as_posix()
        prefix = "" if below == "." else f"{below}/"
        for name in names:
            image_id, path = prefix + os.path.splitext(name)[0], current / name
            if image_id in found:
                clashes.append(f"{found[image_id].name} and {name} in {current}")
            found[image_id] = path
    if clashes:
        raise InputError(f"duplicate id: {several(clashes, 20)}; keep one file of each name")
    return dict(sorted(found.items()))


def _files(
    folder: Path, *, recursive: bool, skip: Collection[Path] = (), wanted: Callable[[str], bool]
) -> list[tuple[Path, list[str]]]:
    """What `find_files` finds, as names per folder: sorting 100,000 names is much faster than sorting paths."""
    found: list[tuple[Path, list[str]]] = []
    seen: set[tuple[int, int]] = set()
    waiting = [folder]
    links: list[Path] = []
    while waiting or links:
        # Real folders first, so that a folder is found under its own name rather than under a link to it.
        current = waiting.pop() if waiting else links.pop()
        try:
            identity = os.stat(current)
            if (identity.st_dev, identity.st_ino) in seen:
                continue
            seen.add((identity.st_dev, identity.st_ino))
            with os.scandir(current) as listing:
                entries = [entry for entry in listing if not entry.name.startswith(".")]
        except FileNotFoundError:
            continue
        except OSError as error:
            raise InputError(f"{printable(current)}: cannot be listed ({error.strerror})") from error
        names = []
        for entry in entries:
            if not _is_folder(entry):
                names.append(entry.name)
            elif recursive and not (skip and Path(entry.path).resolve() in skip):
                (links if entry.is_symlink() else waiting).append(Path(entry.path))
        found.append((current, sorted(name for name in names if wanted(name))))
    return sorted(found, key=lambda listed: listed[0])


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False
