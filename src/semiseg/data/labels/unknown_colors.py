"""List all mask colors that belong to no class."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from semiseg.data.datasets.class_file import ClassFile, Color
from semiseg.data.readers.masks import open_mask
from semiseg.errors import InputError

MAX_LISTED = 6


def hex_color(color: Color) -> str:
    """``#rrggbb``."""
    return "#{:02x}{:02x}{:02x}".format(*color)


def count_colors(path: Path) -> Counter[Color]:
    """Pixels of each color of a mask file."""
    colors = np.asarray(open_mask(path).convert("RGB"), np.int32)
    packed, counts = np.unique((colors << (16, 8, 0)).sum(2), return_counts=True)
    return Counter({(int(v) >> 16, int(v) >> 8 & 255, int(v) & 255): int(n) for v, n in zip(packed, counts)})


def describe_unknown(masks: Sequence[Path], class_file: ClassFile, where: Path) -> str | None:
    """One line on all mask colors that are not in the class file; None if there are none.

    Gives the share of each color among all pixels, the nearest class color, and what to write. Unreadable files are
    skipped; they raise when they are needed.
    """
    counts: Counter[Color] = Counter()
    for path in masks:
        try:
            counts += count_colors(path)
        except InputError:
            continue
    known = {color: name for name, color in zip(class_file.names, class_file.colors) if color is not None}
    unknown = [(color, n) for color, n in counts.most_common() if color not in known]
    if not unknown or not known:
        return None
    total = counts.total()
    listed = "; ".join(f"{_row(color, n / total, known)}" for color, n in unknown[:MAX_LISTED])
    more = f"; and {len(unknown) - MAX_LISTED} more" if len(unknown) > MAX_LISTED else ""
    share = 100 * sum(n for _, n in unknown) / total
    mixed = " (likely blended at borders: export masks as PNG, without smoothing)" if len(unknown) > 50 else ""
    return (
        f"{where}: {len(unknown)} colors are not in {class_file.path.name}, {share:.2g} % of all pixels{mixed}: "
        f'{listed}{more}; add `- {{name: NAME, color: "{hex_color(unknown[0][0])}"}}` there for a class, with '
        "`ignore: true` for pixels without a class"
    )


def _row(color: Color, share: float, known: dict[Color, str]) -> str:
    nearest = min(known, key=lambda k: sum((a - b) ** 2 for a, b in zip(k, color)))
    return f"{hex_color(color)} {100 * share:.2g} %, nearest '{known[nearest]}' {hex_color(nearest)}"
