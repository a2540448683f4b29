"""Prediction of videos and numbered images, frame by frame: an overlay video, and one index PNG per frame."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image
from tqdm import tqdm

from semiseg.data.batch import IGNORE
from semiseg.data.readers.limits import MAX_PIXELS
from semiseg.data.readers.listing import IMAGE_SUFFIXES
from semiseg.errors import InputError
from semiseg.runs.files import write_json
from semiseg.training.overlay import draw_legend, draw_overlay, paletted
from semiseg.training.predict import RECORD, PredictResult, read_record
from semiseg.training.predictor import Predictor

log = logging.getLogger(__name__)

FPS = 25.0
"""Frames per second for numbered images, which do not specify it."""
CODECS = ((".mp4", "mp4v"), (".avi", "MJPG"))
"""Containers and codecs of the overlay video: the first that this build of OpenCV can write."""


def is_video(source: Path) -> bool:
    """Whether OpenCV reads a source as frames: a video file, or numbered images such as ``frame_%04d.png``."""
    if "%" in source.name and not source.exists():
        return True
    if not source.is_file() or source.suffix.lower() in IMAGE_SUFFIXES or _is_image(source):
        return False
    capture = cv2.VideoCapture(str(source))
    try:
        return bool(capture.isOpened())
    finally:
        capture.release()


def _is_image(path: Path) -> bool:
    """Whether a file of any name is an image: OpenCV would take it for a video of one frame."""
    try:
        with Image.open(path) as image:
            return image.format != "MPEG"
    except Exception:  # Pillow raises many kinds for files that are not images
        return False


def predict_video(
    predictor: Predictor,
    source: Path,
    output: Path,
    *,
    made_with: Mapping[str, Any] | None = None,
    confidence: bool = False,
    threshold: float | None = None,
    batch: int = 1,
    fps: float | None = None,
    overwrite: bool = False,
    max_pixels: int = MAX_PIXELS,
) -> PredictResult:
    """Predict every frame of a video.

    Writes ``overlay/NAME.mp4`` (without sound) with ``overlay/legend.png``, ``index/NAME/000000.png``, ... with class
    indices, and on request ``confidence/NAME/000000.png``. Frames have the size and orientation in which the video is
    displayed. A video that was finished by an earlier call with the same ``made_with`` is kept.

    Args:
        predictor: the network.
        source: a video file, or numbered images in OpenCV's notation.
        output: a folder; created if missing.
        made_with: identifies the network; stored with the results.
        confidence: also write the probability of the predicted class, 0..255.
        threshold: pixels whose class has a lower probability become 255 in the masks; in [0, 1].
        batch: frames per forward pass.
        fps: frame rate of the overlay video; None: that of the source, ``FPS`` for numbered images.
        overwrite: replace existing results.
        max_pixels: larger frames are rejected.

    Raises:
        InputError: the source cannot be read or has no frame; ``output`` holds results of something else or cannot be
            written to.
    """
    if threshold is not None and len(predictor.classes) > IGNORE:
        raise InputError(f"threshold={threshold}: 255 is a class of this network, so that no value is left for unsure")
    name = source.stem.replace("%", "_")
    folder = output / "overlay"
    finished = [path for suffix, _ in CODECS if (path := folder / f"{name}{suffix}").exists()]
    record = {**(made_with or {}), "threshold": threshold, "classes": list(predictor.classes)}
    if not overwrite:
        before = read_record(output / RECORD)
        if before is None and (finished or (output / "index" / name).exists() or (output / RECORD).exists()):
            raise InputError(f"output={output} holds files of that name: choose another output, or overwrite=true")
        if before is not None and (differing := [key for key in record if before.get(key) != record[key]]):
            raise InputError(
                f"output={output} holds results of another prediction ({', '.join(differing)} differ): choose another "
                "output, or overwrite=true"
            )
        if finished:
            return PredictResult(kept=1)
    capture = cv2.VideoCapture(str(source))
    try:
        if not capture.isOpened():
            raise InputError(f"source={source}: OpenCV cannot open it as a video or as numbered images")
        return _predict(predictor, capture, source, output, name, record, confidence, threshold, batch, fps, max_pixels)
    except OSError as error:
        raise InputError(f"output={output}: cannot be written to ({error.strerror or error})") from error
    finally:
        capture.release()


def _predict(
    predictor: Predictor,
    capture: cv2.VideoCapture,
    source: Path,
    output: Path,
    name: str,
    record: Mapping[str, Any],
    confidence: bool,
    threshold: float | None,
    batch: int,
    fps: float | None,
    max_pixels: int,
) -> PredictResult:
    folders = {kind: output / kind / name for kind in ("index", *(["confidence"] if confidence else []))}
    for folder in (*folders.values(), output / "overlay"):
        folder.mkdir(parents=True, exist_ok=True)
    write_json(output / RECORD, dict(record))
    draw_legend(predictor.classes, predictor.palette).save(output / "overlay" / "legend.png")
    rate = fps or (FPS if "%" in source.name else capture.get(cv2.CAP_PROP_FPS)) or FPS
    expected = max(0, int(capture.get(cv2.CAP_PROP_FRAME_COUNT)))
    result, writer = PredictResult(), None
    try:
        with tqdm(total=expected or None, unit="frame", disable=None) as progress:
            for frames in _batches(capture, batch):
                if writer is None:
                    height, width = frames[0].shape[:2]
                    if height * width > max_pixels:
                        raise InputError(f"{source}: {width} x {height} pixels; more than max_pixels={max_pixels}")
                    writer = OverlayVideo(output / "overlay" / name, (width, height), rate)
                for frame, probs in zip(frames, predictor(np.stack(frames))):
                    highest, labels = probs.max(0)
                    index, sure = labels.byte().cpu().numpy(), highest.cpu().numpy()
                    if threshold is not None:
                        index[sure < threshold] = IGNORE
                    file = f"{len(result.written):06d}.png"
                    paletted(index, predictor.palette).save(folders["index"] / file, bits=8)
                    if confidence:
                        Image.fromarray(np.rint(255 * sure).astype(np.uint8)).save(folders["confidence"] / file)
                    writer.add(draw_overlay(Image.fromarray(frame), index, predictor.palette))
                    result.written.append(folders["index"] / file)
                progress.update(len(frames))
        if writer is None:
            raise InputError(f"source={source}: OpenCV finds no frame in it")
        writer.finish()
    finally:
        if writer is not None:
            writer.discard()
    if len(result.written) < expected:
        log.warning("%s: %d of about %d frames could be read", source, len(result.written), expected)
    return result


class OverlayVideo:
    """A video that is written to a temporary file and moved into place when complete.

    Args:
        path: without suffix.
        size: (width, height).
        fps: frames per second.

    Raises:
        InputError: this build of OpenCV writes none of ``CODECS``.
    """

    def __init__(self, path: Path, size: tuple[int, int], fps: float) -> None:
        for suffix, codec in CODECS:
            self.path = path.with_name(f"{path.name}{suffix}")
            self.beside = path.with_name(f".{path.name}.{os.getpid()}{suffix}")
            self.writer = cv2.VideoWriter(str(self.beside), cv2.VideoWriter.fourcc(*codec), fps, size)
            if self.writer.isOpened():
                return
            self.discard()
        raise InputError("this build of OpenCV writes neither MP4 nor AVI: install opencv-python-headless")

    def add(self, picture: Image.Image) -> None:
        """Append an RGB frame."""
        self.writer.write(cv2.cvtColor(np.asarray(picture), cv2.COLOR_RGB2BGR))

    def finish(self) -> None:
        """Move the video into place."""
        self.writer.release()
        os.replace(self.beside, self.path)

    def discard(self) -> None:
        """Remove the unfinished file."""
        self.writer.release()
        self.beside.unlink(missing_ok=True)


def _batches(capture: cv2.VideoCapture, size: int) -> Iterator[list[np.ndarray]]:
    """(H, W, 3) uint8 RGB frames, ``size`` at a time."""
    frames: list[np.ndarray] = []
    while True:
        there, frame = capture.read()
        if there:
            frames.append(cv2.cvtColor(frame, cv2.COLOR_BGR2RGB))
        if frames and (len(frames) == size or not there):
            yield frames
            frames = []
        if not there:
            return
