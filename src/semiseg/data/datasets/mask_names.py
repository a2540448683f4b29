"""Derive the file name of a mask from that of its photo."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from semiseg.errors import InputError

PATTERNS = (
    "{stem}",
    *("{stem}_mask", "{stem}-mask", "{stem}.mask", "{stem}_masks", "mask_{stem}"),
    *("{stem}_label", "{stem}_labels", "{stem}_labelIds", "{stem}_L", "{stem}_gt", "{stem}_GT"),
    *("{stem}_seg", "{stem}_segmentation", "{stem}_annotation"),
)
"""Patterns that are tried by default."""


def check_pattern(pattern: str, key: str = "data.mask_name") -> None:
    """Raise InputError if a pattern is not valid."""
    if pattern.count("{stem}") != 1 or "/" in pattern or "\\" in pattern or not pattern.isprintable():
        raise InputError(
            f"{key}={pattern}: expected the name of a mask without suffix, with {{stem}} for the stem of its photo: "
            '"{stem}_mask"'
        )


def fit(
    images: Collection[str], masks: Collection[str], pattern: str | None = None, *, patterns: Sequence[str] = PATTERNS
) -> tuple[dict[str, str], str]:
    """Pair photos with masks by their names.

    Args:
        images, masks: ids: paths without suffix, relative to the folders of photos and masks.
        pattern: see `check_pattern`; by default, ``patterns`` are tried.
        patterns: the one that matches most photos is used, the first one in case of a tie.

    Returns:
        Mask id by photo id, and the pattern.
    """
    tried = [(_by(images, masks, p), p) for p in ([pattern] if pattern else patterns)]
    return max(tried, key=lambda found: len(found[0]))


def _by(images: Collection[str], masks: Collection[str], pattern: str) -> dict[str, str]:
    before, _, after = pattern.partition("{stem}")
    found = {}
    for mask_id in masks:
        folder, slash, name = mask_id.rpartition("/")
        if len(name) >= len(before) + len(after) and name.startswith(before) and name.endswith(after):
            image_id = folder + slash + name[len(before) : len(name) - len(after)]
            if image_id in images:
                found[image_id] = mask_id
    return found
