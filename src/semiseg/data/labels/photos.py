"""Find the photo that a label file names. Paths in label files are only compared with names on disk, never opened."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Collection, Sequence
from pathlib import Path, PurePosixPath

from semiseg.data.readers.listing import is_utf8, printable, several, strip_suffix
from semiseg.errors import InputError


def inside(name: str, label_file: Path, root: Path) -> PurePosixPath:
    """The path below ``root`` that ``name`` in a label file refers to; backslashes separate folders too.

    Raises:
        InputError: for an absolute path, or one that leaves ``root``.
    """
    text = name.replace("\\", "/")
    base = label_file.parent.relative_to(root).parts if label_file.is_relative_to(root) else ()
    parts: list[str] = list(base)
    outside = text.startswith("/") or re.match(r"[A-Za-z]:", text) or not text.isprintable()
    for part in PurePosixPath(text).parts:
        if part != "..":
            parts.append(part)
        elif parts:
            parts.pop()
        else:
            outside = True
    if outside or not parts:
        raise InputError(
            f"{label_file}: names the image {name!r}, which is not below {root}; use the folder that contains photos "
            "and labels, or correct the name"
        )
    return PurePosixPath(*parts)


class Photos:
    """The images below a folder, found by relative path, by file name, or by stem.

    Args:
        root: the folder.
        files: the images in it.

    Raises:
        InputError: for file names that are not UTF-8.
    """

    def __init__(self, root: Path, files: Sequence[Path]):
        if wrong := [printable(path) for path in files if not is_utf8(path)]:
            raise InputError(f"file name is not UTF-8: {several(wrong)}; rename the file")
        self.root, self.files = root, list(files)
        self._by_name: dict[str, list[Path]] = defaultdict(list)
        for path in files:
            self._by_name[path.name].append(path)
            self._by_name[path.stem].append(path)

    def without(self, files: Collection[Path]) -> Photos:
        """All images except ``files``."""
        return Photos(self.root, [path for path in self.files if path not in files])

    def find(self, name: PurePosixPath, label_file: Path) -> Path | None:
        """The photo with that name; None if there is none.

        Among photos with the same file name, the one whose parent folders match best is chosen.

        Raises:
            InputError: if several match equally well.
        """
        found = self._by_name.get(name.name) or self._by_name.get(strip_suffix(name.name)) or []
        if len(found) < 2:
            return found[0] if found else None
        folders = {path: path.relative_to(self.root).parent.parts for path in found}
        scores = {path: _shared(parts, name.parent.parts) for path, parts in folders.items()}
        best = [path for path in found if scores[path] == max(scores.values())]
        if len(best) > 1:
            raise InputError(f"{label_file}: '{name}' may be any of {several(best)}; keep only one below the source")
        return best[0]


def _shared(a: Sequence[str], b: Sequence[str]) -> tuple[int, int]:
    """How many folders two paths share, counted from the end, and from the start."""

    def count(pairs: list[tuple[str, str]]) -> int:
        return next((i for i, (x, y) in enumerate(pairs) if x != y), len(pairs))

    return count(list(zip(reversed(a), reversed(b)))), count(list(zip(a, b)))


def missing_photos(names: Sequence[object], found: int, source: Path) -> tuple[str, ...]:
    """A note on labels whose photo is missing.

    Raises:
        InputError: if no photo was found at all.
    """
    if names and not found:
        raise InputError(
            f"{source}: no photo found for any label ({several(names, 3)}); set the folder of the photos: images=DIR"
        )
    return (f"{len(names)} labels have no photo: {several(names)}",) if names else ()
