"""Makes a folder as people have it: 52 photos, 12 of them with labels of labelme. It plays the person, too.

    python examples/own_images.py photos field       # 52 painted photos, labelme JSON beside 12 of them
    python examples/own_images.py label to_label     # labels the photos in a folder, as a person would with labelme

The photos are scenes of the embedded data set, so that the walk on the page "Your own images" can be tried, and tested,
without any photo of yours.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
from PIL import Image

from semiseg.data.datasets.shapes_scene import CLASSES, draw_scene
from semiseg.labeling.outlines import labelme_file

PHOTOS, LABELED, SIZE = 52, 12, (180, 240)


def scene(number: int) -> tuple[np.ndarray, np.ndarray]:
    """(H, W, 3) photo and (H, W) classes, the same at every call."""
    return draw_scene(np.random.default_rng([7, number]), *SIZE)


def write_photos(folder: Path) -> None:
    """All photos, and the labels of the first ones."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(1, PHOTOS + 1):
        Image.fromarray(scene(number)[0]).save(folder / f"photo_{number:02}.jpg", quality=95)
        if number <= LABELED:
            write_labels(folder / f"photo_{number:02}.jpg")


def write_labels(photo: Path) -> None:
    """What labelme saves once everything in a photo is outlined."""
    mask = scene(int(photo.stem.rpartition("_")[2]))[1]
    photo.with_suffix(".json").write_text(json.dumps(labelme_file(mask, CLASSES, photo.name), indent=1))


def main() -> None:
    """``photos DIR`` or ``label DIR``."""
    if len(sys.argv) != 3 or sys.argv[1] not in ("photos", "label"):
        sys.exit(__doc__)
    folder = Path(sys.argv[2])
    if sys.argv[1] == "photos":
        write_photos(folder)
        print(f"{folder}: {PHOTOS} photos, {LABELED} with labels")
        return
    photos = sorted(folder.rglob("photo_*.jpg"))
    for photo in photos:
        write_labels(photo)
    print(f"{folder}: {len(photos)} photos labeled")


if __name__ == "__main__":
    main()
