"""COCO 2017 as semantic segmentation: 80 object classes and background."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np

from semiseg.arguments import checked
from semiseg.data.batch import IGNORE
from semiseg.data.datasets.base import Balance, SegmentationDataset
from semiseg.data.datasets.class_file import default_palette
from semiseg.data.datasets.coco_instances import Instances
from semiseg.data.datasets.layout import find_root, require_images
from semiseg.data.datasets.mask_cache import MaskCache
from semiseg.data.readers.images import read_image
from semiseg.data.readers.listing import file_is_there, list_images
from semiseg.data.readers.masks import read_index_mask, reject_labels
from semiseg.errors import InputError, suggest

Crowd = Literal["class", "ignore"]

_LABELED = ("train", "val")
_SPLITS = (*_LABELED, "unlabeled")
_NAMES = (
    "background",
    "person",
    "bicycle",
    "car",
    "motorcycle",
    "airplane",
    "bus",
    "train",
    "truck",
    "boat",
    "traffic light",
    "fire hydrant",
    "stop sign",
    "parking meter",
    "bench",
    "bird",
    "cat",
    "dog",
    "horse",
    "sheep",
    "cow",
    "elephant",
    "bear",
    "zebra",
    "giraffe",
    "backpack",
    "umbrella",
    "handbag",
    "tie",
    "suitcase",
    "frisbee",
    "skis",
    "snowboard",
    "sports ball",
    "kite",
    "baseball bat",
    "baseball glove",
    "skateboard",
    "surfboard",
    "tennis racket",
    "bottle",
    "wine glass",
    "cup",
    "fork",
    "knife",
    "spoon",
    "bowl",
    "banana",
    "apple",
    "sandwich",
    "orange",
    "broccoli",
    "carrot",
    "hot dog",
    "pizza",
    "donut",
    "cake",
    "chair",
    "couch",
    "potted plant",
    "bed",
    "dining table",
    "toilet",
    "tv",
    "laptop",
    "mouse",
    "remote",
    "keyboard",
    "cell phone",
    "microwave",
    "oven",
    "toaster",
    "sink",
    "refrigerator",
    "book",
    "clock",
    "vase",
    "scissors",
    "teddy bear",
    "hair drier",
    "toothbrush",
)


@checked
class COCO(SegmentationDataset):
    """Images `{train,val,unlabeled}2017/<12 digits>.jpg` with label maps from one of two sources.

    **Ready-made masks**, `masks/<12 digits>.png` for train and val together, are used if that folder exists (or is
    given by ``masks``). An image without a mask is unlabeled.

    **Painted masks** otherwise, from `annotations/instances_{train,val}2017.json`: background is 0, and each object
    gets the rank of its category id (1..80), painted in order of decreasing area so that small objects stay on top.
    The papers state neither their painting order nor their treatment of crowd regions, so these masks are *not*
    bit-identical to theirs. For results comparable to theirs, use the ready-made masks of UniMatch or SemiVL.
    The JSON file of a split is parsed once, on first access to one of its masks; this takes about 15 s for train.

    Args:
        root: the folder that contains `train2017/`, or the parent of such a folder named `coco`.
        masks: folder of ready-made masks, absolute or relative to ``root``.
        crowd: value of painted crowd regions: their "class", or 255 ("ignore").
        mask_cache: folder to cache painted masks in; see `MaskCache`.
        balance: "classes": labeled crops show rare classes more often, see `ClassBalance`.

    Source: Lin et al. 2014; cocodataset.org.
    """

    name = "coco"
    classes = _NAMES
    palette = tuple(default_palette(len(_NAMES)))

    def __init__(
        self,
        root: str | Path | None,
        masks: str | Path | None = None,
        crowd: Crowd = "class",
        mask_cache: str | Path | None = None,
        balance: Balance | None = None,
    ):
        what = "COCO, with train2017, val2017 and masks or annotations in it"
        self.root = find_root(root, "train2017", ["coco", "COCO", "coco2017"], what)
        self.crowd, self.balance = crowd, balance
        self._by_split = {split: list_images(self.root / f"{split}2017") for split in _SPLITS}
        self._split_of = {i: split for split in reversed(_SPLITS) for i in self._by_split[split]}
        self._masks = self._ready_masks(masks)
        self._cache = MaskCache(mask_cache) if mask_cache else None
        self._parsed: dict[str, Instances] = {}

    def ids(self, split: str) -> list[str]:
        """Sorted stems of "train", "val" or, if it exists, "unlabeled"."""
        if split not in _SPLITS:
            raise InputError(f"coco has no split '{split}': {suggest(split, _SPLITS)}")
        if not self._by_split[split]:
            raise InputError(f"no images in {self.root / f'{split}2017'}: extract {split}2017.zip there")
        return list(self._by_split[split])

    def load_image(self, image_id: str) -> np.ndarray:
        """(H, W, 3) uint8, RGB."""
        return read_image(self._by_split[self._split(image_id)][image_id])

    def load_mask(self, image_id: str) -> np.ndarray:
        """(H, W) uint8: 0 background, 1..80; 255 in ready-made masks, or for crowd regions with ``crowd`` "ignore"."""
        if not self.has_mask(image_id):
            raise InputError(f"coco in {self.root} has no mask for '{image_id}'")
        if self._masks is None:
            return self._painted(image_id)
        path = self._masks[image_id]
        mask = read_index_mask(path)
        reject_labels(path, (mask >= len(_NAMES)) & (mask != IGNORE), mask, "expected 0..80, or 255 for ignored")
        return mask

    def has_mask(self, image_id: str) -> bool:
        """Whether there is a ready-made mask, or the image is in the JSON file, which is parsed on first access.

        Raises:
            InputError: without ready-made masks, if the JSON file of the image's split is missing or malformed.
        """
        if self._masks is not None:
            return image_id in self._masks
        split = self._split_of.get(image_id)
        return split in _LABELED and image_id in self._instances(split)

    def locate(self, image_id: str) -> str:
        """Path of the image."""
        return str(self.image_file(image_id) or image_id)

    def image_file(self, image_id: str) -> Path | None:
        """Path of the image."""
        split = self._split_of.get(image_id)
        return self._by_split[split][image_id] if split else None

    def mask_file(self, image_id: str) -> Path | None:
        """Path of the ready-made mask, or of the JSON file it is painted from."""
        if self._masks is not None:
            return self._masks.get(image_id)
        split = self._split_of.get(image_id)
        return self._annotations(split) if split in _LABELED else None

    def _split(self, image_id: str) -> str:
        if image_id not in self._split_of:
            raise InputError(f"coco in {self.root} has no image for '{image_id}'")
        return self._split_of[image_id]

    def _ready_masks(self, named: str | Path | None) -> dict[str, Path] | None:
        """Paths by id; None if masks must be painted."""
        folder = self.root / Path(named or "masks").expanduser()
        if not folder.is_dir() and not named:
            return None
        found = list_images(folder)
        if not found:
            raise InputError(f"data.masks={folder}: no masks; expected <12 digits>.png of train and val together")
        return found

    def _annotations(self, split: str) -> Path:
        return self.root / "annotations" / f"instances_{split}2017.json"

    def _instances(self, split: str) -> Instances:
        if split not in self._parsed:
            path = self._annotations(split)
            if not file_is_there(path):
                raise InputError(
                    f"{path}: no such file, and no ready-made masks in {self.root / 'masks'}; extract "
                    "annotations_trainval2017.zip, or set data.masks=FOLDER"
                )
            parsed = Instances(path)
            require_images(parsed.ids, self._by_split[split], path, self.root / f"{split}2017")
            self._parsed[split] = parsed
        return self._parsed[split]

    def _painted(self, image_id: str) -> np.ndarray:
        instances = self._instances(self._split(image_id))
        crowd = IGNORE if self.crowd == "ignore" else None
        if self._cache is None:
            return instances.paint(image_id, crowd)
        rule = f"coco, falling area, crowd {self.crowd}, {image_id}"
        return self._cache.get(instances.path, rule, lambda: instances.paint(image_id, crowd))
