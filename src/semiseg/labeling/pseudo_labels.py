"""A teacher's masks of the unlabeled images of its run, predicted once and stored on disk."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from semiseg.data.batch import IGNORE
from semiseg.data.datasets.base import SegmentationDataset
from semiseg.data.datasets.pseudo_labeled import RECORD, PseudoLabels, masks_sha256, read_pseudo_labels
from semiseg.data.readers.masks import read_index_mask
from semiseg.errors import InputError
from semiseg.labeling.next_images import prefill
from semiseg.runs.files import replacing, write_json
from semiseg.training.overlay import paletted
from semiseg.training.predictor import Predictor


def make_pseudo_labels(
    predictor: Predictor,
    dataset: SegmentationDataset,
    ids: Sequence[str],
    folder: Path,
    *,
    threshold: float,
    teacher: dict[str, Any],
    progress: bool = False,
) -> PseudoLabels:
    """Label images, unless that has been done. Called again after an interruption, it continues.

    Args:
        predictor: the teacher.
        dataset: source of the images; their own masks are not opened.
        ids: the images.
        folder: output folder for masks and record.
        threshold: pixels whose class has a lower probability become 255.
        teacher: identifies the teacher, for the record: ``run``, ``checkpoint_sha256``, ``network``, ...
        progress: show a progress bar.

    Raises:
        InputError: no pixel is sure; the folder holds the masks of another teacher, or other images, or cannot be
            written to.
    """
    asked = {**teacher, "threshold": threshold, "classes": list(predictor.classes), "asked": sorted(ids)}
    if (folder / RECORD).exists():
        found = json.loads((folder / RECORD).read_text(encoding="utf-8"))
        if differing := [key for key in asked if found.get(key) != asked[key]]:
            raise InputError(
                f"{folder} holds pseudo-labels made with something else ({', '.join(differing)} differ): remove it"
            )
        return read_pseudo_labels(folder, predictor.classes)
    fill = prefill(predictor, threshold)
    sure: list[str] = []
    labeled = pixels = 0
    try:
        for image_id in tqdm(sorted(ids), unit="image", desc="labeling", disable=None if progress else True):
            path = folder / "masks" / f"{image_id}.png"
            if path.exists():
                mask = read_index_mask(path)
            else:
                mask = fill(dataset.load_image(image_id))
                path.parent.mkdir(parents=True, exist_ok=True)
                with replacing(path) as beside:
                    paletted(mask, predictor.palette).save(beside, format="PNG", bits=8)
            here = int(np.count_nonzero(mask != IGNORE))
            labeled, pixels = labeled + here, pixels + mask.size
            if here:
                sure.append(image_id)
        if not sure:
            raise InputError(f"threshold={threshold}: the teacher is sure of no pixel of {len(ids)} images; lower it")
        record = {**asked, "images": len(sure), "share": labeled / pixels, "masks_sha256": masks_sha256(folder, sure)}
        write_json(folder / RECORD, {**record, "ids": sure})
    except OSError as error:
        raise InputError(f"{folder}: cannot be written to ({error.strerror or error}); set paths.runs=DIR") from error
    return read_pseudo_labels(folder, predictor.classes)
