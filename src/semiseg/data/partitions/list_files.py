"""Files that list images. Any published line format can be read; files are written with one id per line."""

from __future__ import annotations

import difflib
import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path

from semiseg.data.readers.listing import file_is_there, strip_suffix
from semiseg.errors import InputError

NAMED = 5  # unknown ids that are reported one by one: finding the nearest match is slow in a long list


def base_name(path: str) -> str:
    """Name of an image in any list format: without folders, image suffix or `_leftImg8bit`."""
    return strip_suffix(path.rsplit("/", 1)[-1]).removesuffix("_leftImg8bit")


def id_set_sha256(ids: Iterable[str], *, among: Iterable[str] = ()) -> str:
    """Identity of a set of images: sha256 of the sorted unique ids, joined by newlines.

    Base names are hashed, so the hash does not depend on the order or line format of a list. If base names are not
    unique among the images ``among`` (`a/001`, `b/001`), full ids are hashed instead.
    """
    known = set(among)
    by_name = len({base_name(i) for i in known}) == len(known)
    names = {base_name(i) if by_name else i for i in ids}
    return hashlib.sha256("\n".join(sorted(names)).encode()).hexdigest()


def list_sha256(text: str) -> str:
    """Identity of the images on a list, in any line format: the first column of each line counts."""
    return id_set_sha256(line.split()[0] for line in text.splitlines() if line.strip())


def list_text(path: Path) -> str:
    """The text of a list file. Raises InputError naming the file if it cannot be read or is not text."""
    file_is_there(path)
    try:
        return path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise InputError(f"{path}: list file cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not a text file; expected one id per line") from error


def read_list(path: Path, ids: Sequence[str], where: str) -> tuple[list[str], list[str]]:
    """Read a list file and match its lines to ``ids``.

    A line is an id, or an image path with or without suffix, leading slash or outer folders. Anything after the first
    white space (the mask path in other code bases) is ignored. Blank lines are skipped.

    Returns:
        The ids in file order, and one line for each id that is unknown or listed twice; a single line for all unknown
        ids if there are more than `NAMED`.
    """
    lines = list_text(path).splitlines()
    known = set(ids)
    by_name: dict[str, list[str]] = {}
    for image_id in ids:
        by_name.setdefault(base_name(image_id), []).append(image_id)
    seen: dict[str, int] = {}
    problems: list[str] = []
    unknown: list[tuple[int, str]] = []
    for number, line in enumerate(lines, 1):
        text = line.strip()
        if not text:
            continue
        match = _find_id(text, known, by_name)
        if match is None:
            unknown.append((number, text))
        elif match in seen:
            problems.append(f"{path}, line {number}: duplicate id '{match}', also on line {seen[match]}")
        else:
            seen[match] = number
    if len(unknown) > NAMED:
        lines_named = ", ".join(f"line {number} '{text}'" for number, text in unknown[:3])
        counted = f"{len(unknown)} of its {len(seen) + len(unknown)} images are not in {where}"
        return list(seen), [f"{path}: {counted}: {lines_named} and {len(unknown) - 3} more", *problems]
    return list(seen), [*(_not_there(path, *entry, by_name, where) for entry in unknown), *problems]


def _not_there(path: Path, number: int, text: str, by_name: dict[str, list[str]], where: str) -> str:
    near = difflib.get_close_matches(base_name(text.split()[0]), by_name, n=1)
    hint = f"; did you mean '{by_name[near[0]][0]}'?" if near else ""
    return f"{path}, line {number}: '{text}' is not in {where}{hint}"


def _find_id(text: str, known: set[str], by_name: dict[str, list[str]]) -> str | None:
    for entry in (text, text.split()[0]):  # the whole line first: a name may contain spaces
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
