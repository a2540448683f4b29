"""A built-in, procedurally drawn data set: nothing to download, nothing on disk, the same on every machine.

Scenes of two to five objects on a textured background. With few labels they are hard for the same reasons as real
images: size, rotation, aspect ratio and lighting vary independently of the class; objects occlude one another; strokes,
outlines and blobs of any color belong to the background; and classes look alike. Each outline has a typical hue, with
random variation; a disc and a striped disc share both and differ only in texture, while the striped classes share their
texture and differ in outline and hue.
"""

from __future__ import annotations

from typing import Annotated

import numpy as np
from pydantic import Field

from semiseg.arguments import checked
from semiseg.data.datasets.base import Balance, SegmentationDataset
from semiseg.data.datasets.shapes_scene import CLASSES, draw_scene
from semiseg.errors import InputError, suggest

_SPLITS = ("train", "val", "test")

Side = Annotated[int, Field(ge=16, le=4096)]
Count = Annotated[int, Field(ge=1, le=1_000_000)]


@checked
class Shapes(SegmentationDataset):
    """Discs, squares, rings and triangles, plain and striped, in cluttered scenes.

    Args:
        size: (H, W) of every image, in pixels.
        n_train, n_val, n_test: number of images in each split.
        seed: another seed gives another data set. An image does not depend on the number of images.
        cache: keep scenes in memory once drawn (37 kB each at 96 x 96), per process.
        balance: "classes": labeled crops show rare classes more often, see `ClassBalance`.
    """

    name = "shapes"
    classes = CLASSES
    palette = (
        (38, 38, 46),
        (230, 82, 72),
        (245, 176, 65),
        (64, 120, 216),
        (92, 204, 222),
        (88, 182, 96),
        (170, 102, 205),
    )

    def __init__(
        self,
        size: tuple[Side, Side] = (96, 96),
        *,
        n_train: Count = 512,
        n_val: Count = 128,
        n_test: Count = 128,
        seed: Annotated[int, Field(ge=0)] = 0,
        cache: bool = True,
        balance: Balance | None = None,
    ):
        self.balance = balance
        self._counts = dict(zip(_SPLITS, (n_train, n_val, n_test)))
        self.size = (size[0], size[1])
        self.seed = seed
        self.variant = f"size {self.size[0]}x{self.size[1]}, seed {seed}"
        self._cache: dict[str, tuple[np.ndarray, np.ndarray]] | None = {} if cache else None

    def ids(self, split: str) -> list[str]:
        """`<split>_<index>` of every image of "train", "val" or "test"."""
        if split not in self._counts:
            raise InputError(f"shapes has no split '{split}': {suggest(split, _SPLITS)}")
        return [f"{split}_{index:05d}" for index in range(self._counts[split])]

    def load_image(self, image_id: str) -> np.ndarray:
        """(H, W, 3) uint8, RGB; a copy the caller may write to."""
        return self._scene(image_id)[0].copy()

    def load_mask(self, image_id: str) -> np.ndarray:
        """(H, W) uint8 class index; a copy the caller may write to."""
        return self._scene(image_id)[1].copy()

    def has_mask(self, image_id: str) -> bool:
        """Always true: masks are drawn together with images."""
        return True

    def locate(self, image_id: str) -> str:
        """Name and seed: there is no file."""
        return f"shapes image {image_id} (seed {self.seed})"

    def _scene(self, image_id: str) -> tuple[np.ndarray, np.ndarray]:
        if self._cache is not None and image_id in self._cache:
            return self._cache[image_id]
        split, _, index = image_id.rpartition("_")
        if split not in self._counts or not index.isdecimal() or int(index) >= self._counts[split]:
            raise InputError(f"shapes has no image '{image_id}': expected <split>_<index>, as in train_00000")
        scene = draw_scene(np.random.default_rng([self.seed, _SPLITS.index(split), int(index)]), *self.size)
        if self._cache is not None:
            self._cache[image_id] = scene
        return scene
