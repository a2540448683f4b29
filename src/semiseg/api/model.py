"""A trained model in Python."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, TypeAlias, overload

import numpy as np
from PIL import Image

from semiseg.api.runs import Options, Run, checkpoint_of, written
from semiseg.config.settings import stored_settings
from semiseg.data.readers.bands import read_channels
from semiseg.errors import InputError
from semiseg.export.hub import checkpoint_from_hub
from semiseg.runs.checkpoint import load_checkpoint
from semiseg.training.predictor import Predictor, load_predictor

Photo: TypeAlias = str | Path | Image.Image | np.ndarray
"""A file, a Pillow image, or an (H, W, 3) uint8 array of RGB; of N channels, as the model was trained."""


class Model:
    """A trained network with its pre- and postprocessing; created by ``semiseg.load``.

    Attributes:
        classes: names by class index.
        palette: (R, G, B) in 0..255 by class index.
        checkpoint: the file it was loaded from.
        predictor: the network itself is ``predictor.network``.
    """

    def __init__(self, predictor: Predictor, checkpoint: Path) -> None:
        self.predictor, self.checkpoint = predictor, checkpoint
        self.classes, self.palette = tuple(predictor.classes), tuple(predictor.palette)

    def __repr__(self) -> str:
        return f"<semiseg.Model of {len(self.classes)} classes from {self.checkpoint}>"

    @overload
    def predict(self, images: Photo) -> np.ndarray: ...  # type: ignore[overload-overlap]  # a str is a Sequence
    @overload
    def predict(self, images: Sequence[Photo]) -> list[np.ndarray]: ...
    def predict(self, images: Any) -> Any:
        """The class of each pixel: (H, W) uint8 for an image, a list of them for a list of images.

        Raises:
            InputError: an image cannot be read, or is not an 8-bit RGB image.
        """
        return self._each(images, lambda pixels: self.predictor.masks(pixels[None])[0])

    @overload
    def probabilities(self, images: Photo) -> np.ndarray: ...  # type: ignore[overload-overlap]  # a str is a Sequence
    @overload
    def probabilities(self, images: Sequence[Photo]) -> list[np.ndarray]: ...
    def probabilities(self, images: Any) -> Any:
        """The probability of each class at each pixel: (C, H, W) float32, or a list of them.

        Raises:
            InputError: as ``predict``.
        """
        return self._each(images, lambda pixels: self.predictor(pixels[None])[0].cpu().numpy())

    def _each(self, images: Any, apply: Any) -> Any:
        if isinstance(images, list | tuple):
            return [apply(self._pixels(image)) for image in images]
        return apply(self._pixels(images))

    def _pixels(self, image: Photo) -> np.ndarray:
        channels = self.predictor.channels
        if isinstance(image, str | Path):
            return read_channels(Path(image), channels, value_range=lambda: self.predictor.value_range)
        pixels = np.array(image.convert("RGB") if isinstance(image, Image.Image) and channels == 3 else image)
        if pixels.ndim == 2 and channels == 1:
            pixels = pixels[..., None]
        if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != channels:
            raise InputError(
                f"an image is {pixels.dtype} of shape {pixels.shape}; expected (H, W, {channels}) uint8"
                f"{', RGB' if channels == 3 else ''}, or a file"
            )
        return pixels


def load(
    run: str | Path | Run,
    *,
    which: Literal["best", "last"] = "best",
    network: str | None = None,
    device: str | None = None,
    options: Options | None = None,
) -> Model:
    """Load a trained model. No code from the file is run.

    Args:
        run: a run folder, a checkpoint, the return value of ``train``, or ``hf://OWNER/NAME`` for a model uploaded by
            ``semiseg push``; only the last one uses the network.
        which: which checkpoint of a run folder.
        network: ``teacher`` or ``student``; None: the one the method reports.
        device: ``cpu``, ``cuda:1``, ...; None: a GPU if available.
        options: options to change: ``{"eval": "sliding"}``.

    Raises:
        InputError: the model does not exist or cannot be read.
    """
    remote = isinstance(run, str) and run.startswith("hf://")
    path = checkpoint_from_hub(run) if remote else checkpoint_of(run, which)  # type: ignore[arg-type]
    checkpoint = load_checkpoint(path)
    settings = stored_settings(checkpoint["semiseg"]["config"], written(options or {}))
    return Model(load_predictor(settings, checkpoint, path, network, device), path)
