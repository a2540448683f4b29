"""Prediction of the user's own images: index PNG, color overlay, optional probabilities and confidence."""

from __future__ import annotations

import json
import os
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from semiseg.config.settings import Settings
from semiseg.data.batch import IGNORE
from semiseg.data.readers.bands import as_rgb, read_channels
from semiseg.data.readers.limits import MAX_PIXELS
from semiseg.data.readers.listing import IMAGE_SUFFIXES, find_files, find_images, is_utf8, printable
from semiseg.errors import InputError
from semiseg.runs.files import replacing, write_json
from semiseg.training.assemble import list_data
from semiseg.training.overlay import draw_legend, draw_overlay, paletted
from semiseg.training.predict_raster import is_raster, predict_raster
from semiseg.training.predictor import DoesNotFit, Predictor

RESULTS = {"index": ".png", "overlay": ".jpg", "probabilities": ".npz", "confidence": ".png"}
"""What is written for each image: subfolder and suffix."""
RECORD = "predict.json"
"""File in the output folder that records the settings behind its results."""


@dataclass
class PredictResult:
    """The outcome for all images."""

    written: list[Path] = field(default_factory=list)  # index PNGs, one per predicted image
    skipped: list[tuple[Path, str]] = field(default_factory=list)  # skipped images, and why
    kept: int = 0  # images whose results already existed

    @property
    def exit_code(self) -> int:
        """0 if every image was predicted, else 1."""
        return 1 if self.skipped else 0


def predict(
    predictor: Predictor,
    source: str | Path,
    output: str | Path,
    *,
    made_with: Mapping[str, Any] | None = None,
    without: Collection[Path] = (),
    probabilities: bool = False,
    confidence: bool = False,
    threshold: float | None = None,
    batch: int = 1,
    overwrite: bool = False,
    max_pixels: int = MAX_PIXELS,
) -> PredictResult:
    """Predict one image or all images below a folder, and write the results below ``output``.

    ``index/NAME.png`` contains class indices with an embedded palette, ``overlay/NAME.jpg`` a picture for viewing,
    with its colors explained in ``overlay/legend.png``, ``probabilities/NAME.npz`` float16 (C, H, W)
    ``probabilities`` and the ``classes``, ``confidence/NAME.png`` the probability of the predicted class, 0..255. NAME
    is the path below ``source`` without its suffix, or with it if two images differ in nothing else. All outputs have
    the size and orientation in which the image is displayed (EXIF). An image that cannot be read or predicted is
    skipped and listed in the result. Hidden files and earlier results are ignored. Images are read as in training, see
    `semiseg.data.readers.images`. TIFF files with a geo-reference, or with more than ``max_pixels``
    pixels, go window by window to ``index/NAME.tif`` and ``confidence/NAME.tif``, see `predict_raster`.

    A later call with the same ``made_with`` adds new images and keeps existing results.

    Args:
        predictor: the network.
        source: an image file, or a folder that is searched recursively.
        output: a folder; created if missing.
        made_with: identifies the network; stored with the results.
        without: resolved paths of images below ``source`` to leave out.
        probabilities: also write class probabilities.
        confidence: also write the confidence.
        threshold: pixels whose class has a lower probability become 255 in ``index``; in [0, 1].
        batch: images of equal size per forward pass.
        overwrite: replace existing results.
        max_pixels: skip larger images.

    Raises:
        InputError: there is nothing to predict; ``output`` contains other results or is not writable; classes and
            network do not match; the inference does not cover the whole image.
    """
    if batch < 1:
        raise InputError(f"batch={batch}: expected at least 1 image per forward pass")
    if threshold is not None and len(predictor.classes) > IGNORE:
        raise InputError(f"threshold={threshold}: 255 is a class of this network; omit threshold=")
    source, output = Path(source), Path(output)
    asked = {"probabilities": probabilities, "confidence": confidence}
    kinds = [kind for kind in RESULTS if asked.get(kind, True)]
    found = [path for path in _find_images(source, output) if path.resolve() not in without]
    if not found:
        raise InputError(f"source={source}: every image below it is labeled; nothing is left to predict")
    rasters = {path for path in found if is_raster(path, max_pixels)}
    targets = {
        path: _files(output, name, kinds, raster=path in rasters) for path, name in _names(source, found).items()
    }
    _keep_sources(targets)
    record = {**(made_with or {}), "threshold": threshold, "classes": list(predictor.classes)}
    result = PredictResult()
    todo = _prepare(output, targets, record, overwrite)
    result.kept = len(targets) - len(todo)
    (output / "overlay").mkdir(exist_ok=True)
    draw_legend(predictor.classes, predictor.palette).save(output / "overlay" / "legend.png")
    plain = [path for path in todo if path not in rasters]
    with tqdm(total=len(todo), unit="image", disable=None) as progress:
        for path in (path for path in todo if path in rasters):
            try:
                predict_raster(predictor, path, targets[path], threshold)
                result.written.append(targets[path]["index"])
            except InputError as error:
                result.skipped.append((path, str(error)))
            progress.update()
        for group in _batches(_read_all(plain, result, progress, predictor, max_pixels), batch):
            try:
                probs = predictor(np.stack([pixels for _, pixels in group]))
            except DoesNotFit as error:
                result.skipped += [(path, f"{path}: {error}") for path, _ in group]
            else:
                for (path, pixels), image_probs in zip(group, probs, strict=True):
                    _write(targets[path], pixels, image_probs, predictor, threshold)
                    result.written.append(targets[path]["index"])
            progress.update(len(group))
    return result


def _files(output: Path, name: str, kinds: Iterable[str], *, raster: bool) -> dict[str, Path]:
    """Paths of the results of an image; a raster gets GeoTIFFs, and no probabilities, which would be huge."""
    if not raster:
        return {kind: output / kind / f"{name}{RESULTS[kind]}" for kind in kinds}
    suffixes = RESULTS | {"index": ".tif", "confidence": ".tif"}
    return {kind: output / kind / f"{name}{suffixes[kind]}" for kind in kinds if kind != "probabilities"}


def _write(
    files: Mapping[str, Path], pixels: np.ndarray, probs: Tensor, predictor: Predictor, threshold: float | None
) -> None:
    """Write the results of an image; the index comes last, so that its presence marks a complete result."""
    highest, labels = probs.max(0)
    index, sure = labels.byte().cpu().numpy(), highest.cpu().numpy()
    if threshold is not None:
        index[sure < threshold] = IGNORE
    for file in files.values():
        file.parent.mkdir(parents=True, exist_ok=True)
    draw_overlay(Image.fromarray(as_rgb(pixels)), index, predictor.palette).save(files["overlay"], quality=90)
    if "probabilities" in files:
        np.savez_compressed(
            files["probabilities"], probabilities=probs.half().cpu().numpy(), classes=np.array(predictor.classes)
        )
    if "confidence" in files:
        Image.fromarray(np.rint(255 * sure).astype(np.uint8)).save(files["confidence"])
    with replacing(files["index"]) as beside:
        # 8 bits even for few classes: not every reader supports fewer.
        paletted(index, predictor.palette).save(beside, format="PNG", bits=8)


def _find_images(source: Path, output: Path) -> list[Path]:
    if source.is_file():
        return [source]  # named explicitly by the user: its suffix does not matter
    if not source.is_dir():
        raise InputError(f"source={source}: no such file or folder; expected an image or a folder of images")

    # Results of earlier calls are no input, wherever below the source they are.
    earlier = [output, *(record.parent for record in find_files(source, wanted=lambda name: name == RECORD))]
    results = {(folder / kind).resolve() for folder in earlier for kind in RESULTS}
    found = find_images(source, skip=results)
    if not found:
        raise InputError(f"source={source}: no image below this folder; expected *{', *'.join(sorted(IMAGE_SUFFIXES))}")
    return found


def _names(source: Path, images: list[Path]) -> dict[Path, str]:
    """Name of each image's results: path below the source, with the suffix only if needed to distinguish two."""
    root = source.parent if source.is_file() else source
    names = {path: str(path.relative_to(root).with_suffix("")) for path in images}
    while True:  # again, for a name with its suffix may be the bare name of a third image: a.jpg, a.png and a.jpg.png
        count = Counter(names.values())
        full = {path: str(path.relative_to(root)) for path, name in names.items() if count[name] > 1}
        if not full:
            return names
        names |= full


def _keep_sources(targets: Mapping[Path, Mapping[str, Path]]) -> None:
    """Refuse to overwrite an input image with a result.

    Raises:
        InputError: names the image.
    """
    sources = {path.resolve() for path in targets}
    for files in targets.values():
        for target in files.values():
            if target.resolve() in sources:
                raise InputError(f"{target} is one of the images to predict: choose an output outside of source=")


def _prepare(
    output: Path, targets: Mapping[Path, Mapping[str, Path]], record: Mapping[str, Any], overwrite: bool
) -> list[Path]:
    """Check that the results can be written, and return the images without results.

    Raises:
        InputError: the output contains results made with other settings, or files that are not results.
    """
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"output={output}: cannot be created: {error.strerror}; expected a folder") from error
    if not os.access(output, os.W_OK | os.X_OK):
        raise InputError(f"output={output}: no permission to write there; choose another folder")
    present = {path: [file for file in files.values() if file.exists()] for path, files in targets.items()}
    todo = [path for path, files in targets.items() if overwrite or len(present[path]) < len(files)]
    if not overwrite:
        before = read_record(output / RECORD)
        own = [file for files in present.values() for file in files] + [output / RECORD] * (output / RECORD).exists()
        if before is None and own:
            raise InputError(f"{own[0]} already exists: choose another output, or overwrite=true")
        if before is not None and (differing := [key for key in record if before.get(key) != record[key]]):
            raise InputError(
                f"output={output} contains results of another prediction ({', '.join(differing)} differ): choose "
                "another output, or overwrite=true"
            )
    write_json(output / RECORD, record)
    return todo


def read_record(path: Path) -> dict[str, Any] | None:
    """What earlier results were made with; None when there is no such record."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) and "classes" in found else None


def _read_all(
    paths: Iterable[Path],
    result: PredictResult,
    progress: tqdm[Any],
    predictor: Predictor,
    max_pixels: int,
) -> Iterator[tuple[Path, np.ndarray]]:
    """Read images one by one; unreadable ones are recorded in ``result``."""
    for path in paths:
        try:
            if not is_utf8(path):
                raise InputError(f"{printable(path)}: file name is not UTF-8; rename the file")
            samples = read_channels(
                path, predictor.channels, value_range=lambda: predictor.value_range, max_pixels=max_pixels
            )
            yield path, samples
        except InputError as error:
            result.skipped.append((path, str(error)))
            progress.update()


def _batches(images: Iterable[tuple[Path, np.ndarray]], batch: int) -> Iterator[list[tuple[Path, np.ndarray]]]:
    """Group images of equal size into batches, keeping at most four times ``batch`` images in memory."""
    waiting: dict[tuple[int, ...], list[tuple[Path, np.ndarray]]] = defaultdict(list)
    for path, image in images:
        waiting[image.shape[:2]].append((path, image))
        if len(waiting[image.shape[:2]]) == batch:
            yield waiting.pop(image.shape[:2])
        elif sum(map(len, waiting.values())) >= 4 * batch:
            yield waiting.pop(next(iter(waiting)))  # the size that has waited longest
    yield from waiting.values()


def labeled_files(settings: Settings) -> set[Path]:
    """Resolved paths of the images that have a mask in the data set of a run.

    Raises:
        InputError: the data set is missing, or its images are not files.
    """
    data = list_data(settings)
    ids = {*data.partition.labeled, *data.partition.unlabeled, *data.val_ids}
    files = {i: data.dataset.image_file(i) for i in ids if data.dataset.has_mask(i)}
    if files and None in files.values():
        raise InputError(f"unlabeled_only=true: the images of data={data.dataset.name} are not files")
    return {file.resolve() for file in files.values() if file is not None}
