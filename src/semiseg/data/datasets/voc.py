"""PASCAL VOC 2012, with or without the additional masks of SBD."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import scipy.io

from semiseg.arguments import checked
from semiseg.data.batch import IGNORE
from semiseg.data.datasets.base import Balance, ListedDataset
from semiseg.data.datasets.layout import find_root, require_images, require_masks
from semiseg.data.datasets.mask_cache import MaskCache
from semiseg.data.partitions.list_files import base_name, list_text
from semiseg.data.readers.images import opened
from semiseg.data.readers.listing import file_is_there, list_images
from semiseg.data.readers.masks import reject_labels, to_index
from semiseg.errors import InputError, suggest

_SPLITS = ("train", "val", "trainaug", "all")
_LISTS = "ImageSets/Segmentation"
_SBD_FOLDERS = ("benchmark_RELEASE/dataset/cls", "dataset/cls", "sbd/cls")


@checked
class VOC(ListedDataset):
    """Images `JPEGImages/<id>.jpg` with masks of 21 values, 255 for object borders.

    A mask is looked up in `SegmentationClassAug/<id>.png`, then `SegmentationClass/<id>.png`, then SBD's
    `<id>.mat`. The 2012 masks take precedence over SBD: they are finer, and validation needs them.

    Splits: "train" and "val" from the lists in `ImageSets/Segmentation`; "trainaug": train and every other image
    that has a mask and is not in val; "all": every image that is not in val. A prepared folder without
    `ImageSets` needs the list of the 1,449 validation ids as `ImageSets/Segmentation/val.txt`.

    Args:
        root: `VOC2012`, or the folder that contains it or `VOCdevkit`.
        sbd: folder of SBD: `benchmark_RELEASE`, `dataset`, `cls`, or its parent. None: used if it is found in the
            root or up to two folders above, as `benchmark_RELEASE/dataset/cls`, `dataset/cls` or `sbd/cls`.
        mask_cache: folder to cache SBD masks in, as PNG files; None: the `.mat` files are decoded each time.
        balance: "classes": labeled crops show rare classes more often, see `ClassBalance`.

    Source: Everingham et al. 2012; SBD: Hariharan et al. 2011.
    """

    name = "voc"
    classes = (
        "background",
        "aeroplane",
        "bicycle",
        "bird",
        "boat",
        "bottle",
        "bus",
        "car",
        "cat",
        "chair",
        "cow",
        "diningtable",
        "dog",
        "horse",
        "motorbike",
        "person",
        "pottedplant",
        "sheep",
        "sofa",
        "train",
        "tvmonitor",
    )
    palette = (
        (0, 0, 0),
        (128, 0, 0),
        (0, 128, 0),
        (128, 128, 0),
        (0, 0, 128),
        (128, 0, 128),
        (0, 128, 128),
        (128, 128, 128),
        (64, 0, 0),
        (192, 0, 0),
        (64, 128, 0),
        (192, 128, 0),
        (64, 0, 128),
        (192, 0, 128),
        (64, 128, 128),
        (192, 128, 128),
        (0, 64, 0),
        (128, 64, 0),
        (0, 192, 0),
        (128, 192, 0),
        (0, 64, 128),
    )

    def __init__(
        self,
        root: str | Path | None,
        sbd: str | Path | None = None,
        mask_cache: str | Path | None = None,
        balance: Balance | None = None,
    ) -> None:
        self.balance = balance
        what = "PASCAL VOC 2012, VOC2012 with JPEGImages and SegmentationClass in it"
        self.root = find_root(root, "JPEGImages", ["VOC2012", "VOCdevkit/VOC2012"], what)
        self._images = list_images(self.root / "JPEGImages")
        self._masks = find_sbd(self.root, sbd)
        for folder in ("SegmentationClass", "SegmentationClassAug"):
            self._masks.update(list_images(self.root / folder))
        if not self._images:
            raise InputError(f"{self.root / 'JPEGImages'}: no images; extract the whole archive")
        if not self._masks:
            raise InputError(
                f"{self.root}: no masks; expected <id>.png in SegmentationClass/ or SegmentationClassAug/, "
                "or data.sbd=FOLDER with the .mat files of SBD"
            )
        self._cache = MaskCache(mask_cache) if mask_cache else None
        self._ids: dict[str, list[str]] = {}

    def ids(self, split: str) -> list[str]:
        """Sorted ids of "train", "val", "trainaug" or "all". Raises InputError if a list or file is missing."""
        if split not in _SPLITS:
            raise InputError(f"voc has no split '{split}': {suggest(split, _SPLITS)}")
        if split not in self._ids:
            self._ids[split] = self._find_ids(split)
        return list(self._ids[split])

    def load_mask(self, image_id: str) -> np.ndarray:
        """(H, W) uint8: class index, or 255 where the file has it."""
        path = self._path(self._masks, image_id, "mask")
        if path.suffix != ".mat":
            mask = read_palette_mask(path)
        elif self._cache is None:
            mask = read_sbd_mask(path)
        else:
            mask = self._cache.get(path, "sbd", lambda: read_sbd_mask(path))
        reject_labels(path, (mask >= len(self.classes)) & (mask != IGNORE), mask, "expected 0..20, or 255 for ignored")
        return mask

    def _find_ids(self, split: str) -> list[str]:
        if split == "all":
            return sorted(self._images.keys() - set(self.ids("val")))
        folder = self.root / "JPEGImages"
        if split == "trainaug":
            found = sorted(self._masks.keys() - set(self.ids("val")))
            require_images(found, self._images, self._masks[found[0]].parent if found else folder, folder)
            return found
        source = self.root / _LISTS / f"{split}.txt"
        if not file_is_there(source):
            raise InputError(
                f"{source}: no such file; expected the list of the {split} ids of VOC 2012, one per line: "
                "copy it from the official archive"
            )
        found = sorted({base_name(line.split()[0]) for line in list_text(source).splitlines() if line.strip()})
        if not found:
            raise InputError(f"{source}: empty; expected the {split} ids of VOC 2012, one per line")
        require_images(found, self._images, source, folder)
        require_masks(found, self._masks, source, self.root)
        return found


def find_sbd(root: Path, sbd: str | Path | None) -> dict[str, Path]:
    """The `.mat` files of SBD by id, from ``sbd`` or the usual places around ``root``; may be empty.

    Raises:
        InputError: if ``sbd`` is given and contains none.
    """
    if sbd is not None:
        top = Path(sbd).expanduser()
        folders = [top / name for name in ("", "cls", *_SBD_FOLDERS)]
    else:
        folders = [place / name for place in (root, *list(root.absolute().parents)[:2]) for name in _SBD_FOLDERS]
    for folder in folders:
        found = {path.stem: path for path in sorted(folder.glob("*.mat"))}
        if found:
            return found
    if sbd is not None:
        raise InputError(f"data.sbd={sbd}: no .mat files in it or in dataset/cls; expected the folder of SBD")
    return {}


def read_palette_mask(path: Path) -> np.ndarray:
    """(H, W) uint8: the indices of a palette or gray PNG. Raises InputError naming the file, including for RGB."""
    with opened(path) as image:
        if image.mode.startswith("RGB"):
            raise InputError(
                f"{path}: {image.mode} image, but VOC masks are palette images of class indices; "
                "use the original file from the archive, not one converted to RGB"
            )
        return to_index(image, path)


def read_sbd_mask(path: Path) -> np.ndarray:
    """(H, W) uint8: `GTcls.Segmentation` of an SBD file. Raises InputError naming the file if it has none."""
    file_is_there(path)
    try:
        mask = scipy.io.loadmat(path, variable_names=["GTcls"])["GTcls"]["Segmentation"][0, 0]
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except Exception as error:  # scipy raises ValueError, KeyError, zlib.error, NotImplementedError, ...
        raise InputError(f"{path}: cannot be read as an SBD mask, GTcls.Segmentation ({error})") from error
    if mask.ndim != 2 or mask.dtype != np.uint8:
        raise InputError(f"{path}: GTcls.Segmentation is {mask.dtype} {mask.shape}; expected uint8 (H, W)")
    return np.ascontiguousarray(mask)
