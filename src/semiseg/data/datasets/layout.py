"""Find a data set below or above the folder that was given, and report what an archive lacks."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from pathlib import Path

from semiseg.data.readers.listing import several
from semiseg.errors import InputError


def require_root(root: str | Path | None, what: str) -> Path:
    """Check that ``root`` is a folder.

    Raises:
        InputError: if it is not set or missing; says which key to set and what is expected there.
    """
    if root is None or not str(root):
        raise InputError(f"data.root is not set: set data.root=FOLDER, the folder of {what}")
    path = Path(root).expanduser()
    if not path.is_dir():
        raise InputError(f"data.root={root}: no such folder; set data.root=FOLDER, the folder of {what}")
    return path


def find_root(root: str | Path | None, marker: str, below: Iterable[str], what: str) -> Path:
    """The folder that contains ``marker``: ``root``, or one of the folders ``below`` it.

    Raises:
        InputError: if there is none; names the folder above ``root`` that contains it, if any.
    """
    folder = require_root(root, what)
    for name in ("", *below):
        if (folder / name / marker).is_dir():
            return folder / name
    for parent in list(folder.resolve().parents)[:3]:
        if (parent / marker).is_dir():
            raise InputError(f"data.root={root} is inside the data set: set data.root={parent}")
    raise InputError(f"data.root={root}: contains no folder {marker}; expected the folder of {what}")


def require_images(listed: Iterable[str], images: Collection[str], source: Path, folder: Path) -> None:
    """Check that every id listed in ``source`` has an image in ``folder``.

    Raises:
        InputError: with the number of missing images and the first of them.
    """
    _require(listed, images, f"images named by {source}", folder)


def require_masks(ids: Iterable[str], masks: Collection[str], source: Path, folder: Path) -> None:
    """Check that every image listed in ``source`` has a mask.

    Raises:
        InputError: with the number of missing masks and the first of them.
    """
    _require(ids, masks, f"masks of the images in {source}", folder)


def _require(ids: Iterable[str], found: Collection[str], what: str, folder: Path) -> None:
    missing = [i for i in ids if i not in found]
    if missing:
        raise InputError(
            f"{folder}: {len(missing)} {what} are missing ({several(missing, 3)}); extract the whole archive"
        )
