"""A folder of the user's own photos with masks, for tests of runs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

CLASSES = ("ground", "thing", "sky")
COLORS = ((0, 0, 0), (255, 0, 0), (0, 0, 255))


def write_photos(
    root: Path, n_masks: int = 6, *, n: int = 10, size: int = 40, classes: tuple[str, ...] = CLASSES
) -> Path:
    """``n`` photos, the first ``n_masks`` with a mask, two more for validation."""
    noise = np.random.default_rng(size)
    for split, count in (("train", n), ("val", 2)):
        for kind in ("images", "masks"):
            (root / kind / split).mkdir(parents=True, exist_ok=True)
        for i in range(count):
            pixels = noise.integers(0, 255, (size, size, 3), np.uint8)
            Image.fromarray(pixels).save(root / f"images/{split}/{split}{i}.png")
            if split == "val" or i < n_masks:
                write_mask(root, split, i, size)
    write_classes(root, classes)
    return root


def write_mask(root: Path, split: str, i: int, size: int = 40) -> None:
    mask = np.repeat(np.arange(size) * 3 // size, size).reshape(size, size).astype(np.uint8)
    Image.fromarray(np.roll(mask, i, 0)).save(root / f"masks/{split}/{split}{i}.png")


def write_classes(root: Path, classes: tuple[str, ...]) -> None:
    colors = dict(zip(CLASSES, COLORS))
    lines = [f"- {{name: {c}, color: {list(colors.get(c, (9, 9, 9)))}}}\n" for c in classes]
    (root / "classes.yaml").write_text("".join(lines))
