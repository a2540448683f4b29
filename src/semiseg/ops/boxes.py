"""Distributions of CutMix boxes: functions of the crop's height and width and a NumPy generator.

Boxes are drawn in the data loader workers, together with the images; ``semiseg.ops.mixing`` applies them.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from numpy.random import Generator

Box = tuple[int, int, int, int]
CutmixLaw = Literal["unimatch", "half", "u2pl", "xor3"]


def unimatch_box(height: int, width: int, rng: Generator) -> Box:
    """A CutMix box with probability 1/2: area U[0.02, 0.4] of the crop, side ratio h/w U[0.3, 1/0.3].

    Ratio and position are redrawn, at the same area, until the box fits. The ratio is uniform, not log-uniform, so
    73 % of the boxes are taller than wide.

    Returns:
        y0, x0, y1, x1 in pixels, ends exclusive; all zero for no box.
    Source: UniMatch, released code.
    """
    if rng.random() < 0.5:
        return 0, 0, 0, 0
    area = rng.uniform(0.02, 0.4) * height * width
    while True:
        ratio = rng.uniform(0.3, 1 / 0.3)
        box_height, box_width = int(math.sqrt(area * ratio)), int(math.sqrt(area / ratio))
        y, x = int(rng.integers(height)), int(rng.integers(width))
        if y + box_height <= height and x + box_width <= width:
            return y, x, y + box_height, x + box_width


def half_box(height: int, width: int, rng: Generator) -> Box:
    """A CutMix box of always half the area: 0.5^U of the height with U uniform in [0, 1], anywhere inside.

    Returns:
        y0, x0, y1, x1 in pixels, ends exclusive.
    Source: French et al. 2020 (CutMix-Seg), released code.
    """
    share = 0.5 ** rng.random()
    box_height, box_width = round(height * share), round(width * 0.5 / share)
    y = int(rng.integers(height - box_height + 1))
    x = int(rng.integers(width - box_width + 1))
    return y, x, y + box_height, x + box_width


def u2pl_box(height: int, width: int, rng: Generator) -> Box:
    """A CutMix box of always half the area: its width is a uniform integer above half the crop's, anywhere inside.

    Returns:
        y0, x0, y1, x1 in pixels, ends exclusive.
    Source: Wang et al. 2022 (U2PL), released code.
    """
    box_width = int(rng.integers(min(width // 2 + 1, width), max(width, width // 2 + 2)))
    box_height = min(round(height * width / 2 / box_width), height)
    y = int(rng.integers(height - box_height + 1))
    x = int(rng.integers(width - box_width + 1))
    return y, x, y + box_height, x + box_width


def xor3_boxes(height: int, width: int, rng: Generator) -> list[Box]:
    """Always three CutMix boxes, combined by XOR: about a quarter of the crop on average.

    A box covers a fraction q = U[0.25, 0.5] of a third of the crop: q^U of the height with U uniform in [0, 1] and
    q^(1-U) of the width, both times sqrt(1/3); anywhere inside.

    Returns:
        Three times y0, x0, y1, x1 in pixels, ends exclusive.
    Source: Chen et al. 2021 (CPS with CutMix), released code; MKD uses the same.
    """
    boxes = []
    for _ in range(3):
        share = rng.uniform(0.25, 0.5)
        high = share ** rng.random()
        box_height, box_width = (
            round(side * part * math.sqrt(1 / 3)) for side, part in ((height, high), (width, share / high))
        )
        y = int(rng.integers(height - box_height + 1))
        x = int(rng.integers(width - box_width + 1))
        boxes.append((y, x, y + box_height, x + box_width))
    return boxes


LAWS: dict[CutmixLaw, Callable[[int, int, Generator], Box | list[Box]]] = {
    "unimatch": unimatch_box,
    "half": half_box,
    "u2pl": u2pl_box,
    "xor3": xor3_boxes,
}
