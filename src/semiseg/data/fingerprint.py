"""Hashes of the data that a run was trained and validated on: runs are comparable if these are equal.

The fingerprint does not depend on the location of a data folder. It covers the ordered classes, the images in each
part, and their file sizes; file contents are hashed on request.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from semiseg.data.datasets.base import SegmentationDataset
from semiseg.data.partitions.splits import Partition

PARTS = {"labeled": "labeled images", "unlabeled": "unlabeled images", "val": "validation images"}
LENGTH = 16  # hex digits of the digest of a part


@dataclass(frozen=True)
class Fingerprint:
    """Hashes of the data of a run.

    Attributes:
        parts: ``{"classes": [names in order], "variant": text, "labeled": part, "unlabeled": part, "val": part}``, each
            part ``{"count": n, "ids": hex, "files": hex}``: plain values, for records. ``files`` covers the sizes of
            image files, and of mask files except those of unlabeled images.
        contents: hex digest of the contents of all these files; None unless requested.
    """

    parts: dict[str, Any]
    contents: str | None = None

    @property
    def digest(self) -> str:
        """Hex sha256 of everything except ``contents``."""
        return _sha256([json.dumps(self.parts, sort_keys=True)])


def data_fingerprint(
    dataset: SegmentationDataset, partition: Partition, val_ids: Sequence[str], contents: bool = False
) -> Fingerprint:
    """Compute the fingerprint of a data set as a run uses it. Opens no file unless ``contents``.

    Raises:
        InputError: if ``has_mask`` of the data set does.
    """
    parts: dict[str, Any] = {"classes": list(dataset.classes), "variant": dataset.variant}
    for name, ids in (("labeled", partition.labeled), ("unlabeled", partition.unlabeled), ("val", val_ids)):
        sizes = _per_id(dataset, ids, _size, with_masks=name != "unlabeled")
        parts[name] = {"count": len(ids), "ids": _sha256(sorted(ids))[:LENGTH], "files": _sha256(sizes)[:LENGTH]}
    if not contents:
        return Fingerprint(parts)
    hashes = [*_per_id(dataset, [*partition.labeled, *val_ids], _content, with_masks=True)]
    hashes += _per_id(dataset, partition.unlabeled, _content, with_masks=False)
    return Fingerprint(parts, _sha256(hashes))


def describe_difference(old: Mapping[str, Any], new: Mapping[str, Any]) -> str:
    """Describe how the data differ: "5 labeled images more, class order".

    Args:
        old, new: ``parts`` of two fingerprints; missing keys are assumed to be equal.

    Returns:
        Empty if nothing differs.
    """
    found = list(_class_difference(old.get("classes"), new.get("classes")))
    if old.get("variant", new.get("variant")) != new.get("variant", old.get("variant")):
        found.append(f"different variant of the data set ({new['variant']} instead of {old['variant']})")
    for name, what in PARTS.items():
        a, b = old.get(name), new.get(name)
        if not a or not b or a == b:
            continue
        if more := b["count"] - a["count"]:
            found.append(f"{abs(more)} {what if abs(more) > 1 else what[:-1]} {'more' if more > 0 else 'fewer'}")
        elif a["ids"] != b["ids"]:
            found.append(f"other {what}")
        else:
            found.append(f"other files of the same {what}")
    return ", ".join(found)


def _class_difference(old: Sequence[str] | None, new: Sequence[str] | None) -> Iterable[str]:
    if not old or not new or list(old) == list(new):
        return
    if sorted(old) == sorted(new):
        yield "class order"
        return
    added, removed = [c for c in new if c not in old], [c for c in old if c not in new]
    if added:
        yield f"new classes: {', '.join(added)}"
    if removed:
        yield f"removed classes: {', '.join(removed)}"


def _per_id(
    dataset: SegmentationDataset, ids: Iterable[str], look: Callable[[Path], str], *, with_masks: bool
) -> Iterable[str]:
    """One line per id, sorted by id: what ``look`` returns for its files."""
    masks: dict[Path, str] = {}  # many masks may come from one file
    for image_id in sorted(ids):
        image, mask = dataset.image_file(image_id), dataset.mask_file(image_id) if with_masks else None
        if mask is not None and mask not in masks:
            masks[mask] = look(mask)
        yield f"{image_id} {'-' if image is None else look(image)} {'-' if mask is None else masks[mask]}"


def _size(path: Path) -> str:
    try:
        return str(path.stat().st_size)
    except OSError:  # reported when the file is opened
        return "missing"


def _content(path: Path) -> str:
    if not path.is_file():  # reading from a pipe would block forever
        return "missing"
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return "missing"


def _sha256(texts: Iterable[str]) -> str:
    digest = hashlib.sha256()
    for text in texts:
        digest.update(text.encode("utf-8", "surrogateescape") + b"\n")
    return digest.hexdigest()
