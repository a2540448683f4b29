"""Color and dash pattern of each method and of its groups."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from semiseg.dashboard.compare.tables import BASELINE, Section

_N_COLORS = 10  # --m1 .. --m10 in the style sheet; --m0 is the baseline
_DASHES = ("", "8 4", "2 4", "12 4 2 4")  # further groups of one method keep its color
_SHARES = (100, 60, 35, 20)  # percent of color in filled areas, where a dash pattern does not show
UNFINISHED_DASH = "1 6"


class Look(NamedTuple):
    """A CSS color, a dash pattern for lines, and a CSS color for areas."""

    color: str
    dash: str
    fill: str


class Entry(NamedTuple):
    """One entry of a legend."""

    label: str
    color: str
    dash: str = ""


def method_colors(methods: Iterable[str]) -> dict[str, str]:
    """A color per method, the same on the whole page."""
    others = sorted(set(methods) - {BASELINE})
    return {BASELINE: "var(--m0)"} | {m: f"var(--m{1 + i % _N_COLORS})" for i, m in enumerate(others)}


def group_looks(section: Section, colors: dict[str, str]) -> dict[str, Look]:
    """By group label: the color of its method, and a dash pattern that is unique within that method."""
    looks: dict[str, Look] = {}
    ranks: dict[str, int] = {}
    for group in section.groups:
        color = colors[group.key.method]
        rank = ranks[color] = ranks.get(color, -1) + 1
        share = _SHARES[rank % len(_SHARES)]
        fill = color if share == 100 else f"color-mix(in srgb,{color} {share}%,var(--card))"
        looks[group.label] = Look(color, _DASHES[rank % len(_DASHES)], fill)
    return looks
