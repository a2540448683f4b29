"""Applies a trained network to raw images: normalization, inference, and tiling of images that are too large."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from semiseg.config.settings import Settings
from semiseg.data.readers.images import ValueRange
from semiseg.errors import InputError
from semiseg.inference import Inference, Resize, Sliding, Whole, most_probable
from semiseg.training.evaluate import load_network
from semiseg.training.memory import free_memory
from semiseg.training.peak_memory import peak_memory

log = logging.getLogger(__name__)

Color = tuple[int, int, int]

SMALL = 2_000_000
"""Pixels up to which a forward pass runs without checking its memory."""
PROBE = 512  # side in pixels of the forward pass whose memory is measured
NORMALIZING = 40.0  # bytes per pixel, before the forward pass
SHARE = 0.7  # share of the free memory that a forward pass may use
LARGEST_WINDOW = 2048


class DoesNotFit(InputError):
    """An image is too large for memory."""


@dataclass
class Predictor:
    """A network with everything needed to apply it to images.

    Args:
        network: (B, 3, H, W) normalized images to (B, C, H, W) logits; moved to ``device`` and set to eval mode.
        inference: the inference mode; must cover the whole image.
        classes: C names, in the order of the network's channels; at most 255.
        palette: C colors, 0..255.
        mean: mean of each channel of images scaled to [0, 1], as in training.
        std: their standard deviation.
        value_range: values mapped to 0 and 255 in images with more than 8 bits per sample.
        window: minimum height and width of a tile in pixels.
        device: where to compute.
    """

    network: nn.Module
    inference: Inference
    classes: Sequence[str]
    palette: Sequence[Color]
    mean: Sequence[float]
    std: Sequence[float]
    value_range: ValueRange | None = None
    window: tuple[int, int] = (512, 512)
    device: torch.device | str = "cpu"
    _tiles: dict[tuple[int, int], Inference] = field(default_factory=dict, repr=False)
    _bytes_a_pixel: float | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        if len(self.classes) != len(self.palette) or not 0 < len(self.classes) <= 256:
            raise InputError(
                f"{len(self.classes)} classes and {len(self.palette)} colors: expected the same number, 1 to 256"
            )
        self.network = self.network.to(self.device).eval()
        self._shift, self._scale = (torch.tensor(x, device=self.device).view(-1, 1, 1) for x in (self.mean, self.std))

    @property
    def channels(self) -> int:
        """Channels of the images that the network takes."""
        return len(self.mean)

    @torch.inference_mode()
    def __call__(self, images: np.ndarray) -> Tensor:
        """(B, H, W, channels) uint8, RGB if three -> (B, C, H, W) float32 probabilities on the device.

        Raises:
            DoesNotFit: there is not enough memory, not even for tiles.
            InputError: network, classes and inference do not match.
        """
        height, width = images.shape[1:3]
        if images.shape[3] != self.channels:
            raise InputError(f"images have {images.shape[3]} channels, expected {self.channels} as in training")
        if len(images) > 1 and (pixels := len(images) * height * width) > SMALL and not self._fits(pixels):
            return torch.cat([self(image[None]) for image in images])
        inference = self._inference(height, width)
        try:
            probs = inference(self.network, self.normalized(images))
        except (MemoryError, torch.cuda.OutOfMemoryError) as e:
            raise DoesNotFit(f"{width} x {height} pixels: more than the memory of this machine") from e
        if probs.shape[1] != len(self.classes):
            raise InputError(f"the model predicts {probs.shape[1]} classes, but {len(self.classes)} are named")
        if tuple(probs.shape[2:]) != (height, width):
            raise InputError("eval: this mode does not cover the whole image; choose whole, resize or sliding")
        return probs

    def normalized(self, images: np.ndarray) -> Tensor:
        """(B, H, W, 3) uint8, RGB -> (B, 3, H, W) float32 on the device, as the network takes them."""
        # uint8 travels to the device, a quarter of the bytes of float32.
        pixels = torch.from_numpy(np.ascontiguousarray(images)).to(self.device).permute(0, 3, 1, 2).contiguous()
        return (pixels / 255 - self._shift) / self._scale

    def masks(self, images: np.ndarray) -> np.ndarray:
        """(B, H, W, 3) uint8, RGB -> (B, H, W) uint8 class indices."""
        found: np.ndarray = most_probable(self(images)).byte().cpu().numpy()
        return found

    def _inference(self, height: int, width: int) -> Inference:
        """The inference itself, or tiled inference if one image of this size does not fit into memory."""
        if height * width <= SMALL or isinstance(self.inference, Sliding) or self._fits(height * width):
            return self.inference
        by_windows = isinstance(self.inference, Whole) or getattr(self.inference, "multiple", None) is not None
        if not by_windows:
            raise DoesNotFit(f"{width} x {height} pixels do not fit into memory with this eval=; choose eval=sliding")
        if (height, width) not in self._tiles:
            side = int(math.sqrt(self._pixels_that_fit()) / 2)
            multiple = self.inference.multiple or 1 if isinstance(self.inference, Resize) else 1
            side = max(min(side, LARGEST_WINDOW) // 32 * 32, *self.window)
            window = -(-side // multiple) * multiple
            log.warning(
                "%d x %d pixels do not fit into memory: predicted in windows of %d pixels", width, height, window
            )
            self._tiles[height, width] = Sliding(window, batch=1)
        return self._tiles[height, width]

    def _fits(self, pixels: int) -> bool:
        return pixels <= self._pixels_that_fit()

    def _pixels_that_fit(self) -> float:
        """Number of pixels that fit into free memory, extrapolated from a small forward pass."""
        free = free_memory(self.device)
        if free is None:
            return math.inf
        if self._bytes_a_pixel is None:
            probe = torch.zeros(1, self.channels, PROBE, PROBE, device=self.device)
            forward = peak_memory(lambda: self.inference(self.network, probe), self.device)
            self._bytes_a_pixel = forward / PROBE**2 + NORMALIZING
        return SHARE * free / self._bytes_a_pixel


def load_predictor(
    settings: Settings,
    checkpoint: Mapping[str, Any],
    path: Path,
    network: str | None = None,
    device: torch.device | str | None = None,
) -> Predictor:
    """The predictor of a checkpoint.

    Args:
        settings: settings of the checkpoint, with changes (``eval=sliding``).
        checkpoint: the loaded checkpoint.
        path: path of the checkpoint, for messages.
        network: teacher or student; None: the one the method reports.
        device: None: a GPU if available, unless the settings say ``cpu``.

    Raises:
        InputError: the settings describe another method or model, or the network does not exist.
    """
    info = checkpoint["semiseg"]
    if device is None:
        device = "cuda" if settings.trainer.accelerator != "cpu" and torch.cuda.is_available() else "cpu"
    asked = settings.resolved["data"].get("range")
    ends = info.get("value_range") if asked in (None, "auto") else asked
    return Predictor(
        load_network(settings, checkpoint, path, network),
        settings.make.inference(),
        tuple(info["classes"]),
        tuple((color[0], color[1], color[2]) for color in info["palette"]),
        info["mean"],
        info["std"],
        None if ends is None else (float(ends[0]), float(ends[1])),
        settings.crop_size,
        device,
    )
