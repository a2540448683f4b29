"""Colors of classes that bring none, seen with the eyes of color-blind people."""

from __future__ import annotations

import math

import pytest

from semiseg.data.datasets.class_file import Color, default_palette, readable_palette

SEEN = {  # Machado, Oliveira and Fernandes 2009, severity 1, on linear RGB
    "protanopia": ((0.152286, 1.052583, -0.204868), (0.114503, 0.786281, 0.099216), (-0.003882, -0.048116, 1.051998)),
    "deuteranopia": ((0.367322, 0.860646, -0.227968), (0.280085, 0.672501, 0.047413), (-0.011820, 0.042940, 0.968881)),
}
TO_XYZ = ((0.4124, 0.3576, 0.1805), (0.2126, 0.7152, 0.0722), (0.0193, 0.1192, 0.9505))
WHITE = (0.9505, 1.0, 1.089)


def times(matrix, vector) -> list[float]:
    return [sum(a * b for a, b in zip(row, vector)) for row in matrix]


def lab(color: Color, eyes: str) -> tuple[float, float, float]:
    """CIE L*a*b* of what these eyes see."""
    linear = [v / 255 / 12.92 if v / 255 <= 0.04045 else ((v / 255 + 0.055) / 1.055) ** 2.4 for v in color]
    seen = [min(1.0, max(0.0, v)) for v in times(SEEN[eyes], linear)]
    x, y, z = (t ** (1 / 3) if t > 0.008856 else 7.787 * t + 16 / 116 for t in
               (max(0.0, v) / w for v, w in zip(times(TO_XYZ, seen), WHITE)))  # fmt: skip
    return 116 * y - 16, 500 * (x - y), 200 * (y - z)


def closest(palette: list[Color], eyes: str) -> float:
    """Smallest color difference (CIE 1976) between two colors."""
    seen = [lab(color, eyes) for color in palette]
    return min(math.dist(a, b) for i, a in enumerate(seen) for b in seen[:i])


@pytest.mark.parametrize("eyes", SEEN)
def test_color_blind_people_can_tell_the_colors_apart(eyes: str) -> None:
    assert closest(readable_palette(8), eyes) > 15 > closest(default_palette(8), eyes)
    assert closest(readable_palette(22), eyes) > 5 > closest(default_palette(22), eyes)
