"""Strong views of images that are not RGB: the operations that are defined for any number of channels."""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np


class ColorRanges(NamedTuple):
    """Arguments of `TrainViews` that apply to any number of channels."""

    brightness: float
    contrast: float
    jitter_p: float
    blur_sigma: tuple[float, float]
    blur_p: float


class ChannelColors:
    """Brightness and contrast, one factor each for all channels, in random order, then blur.

    Hue, saturation and gray conversion are omitted, as they are only defined for RGB. Contrast is relative to the mean
    of the crop over all channels.

    Args:
        rng: generator of the sample; every call continues it.
        ranges: see `TrainViews`.
    """

    def __init__(self, rng: np.random.Generator, ranges: ColorRanges) -> None:
        self.rng, self.ranges = rng, ranges

    def __call__(self, image: np.ndarray) -> dict[str, np.ndarray]:
        """(H, W, N) uint8 -> {"image": the same, recolored}, as albumentations has it."""
        r, rng = self.ranges, self.rng
        factors = [rng.uniform(1 - r.brightness, 1 + r.brightness), rng.uniform(1 - r.contrast, 1 + r.contrast)]
        contrast_first, jitters, blurs = rng.random() < 0.5, rng.random() < r.jitter_p, rng.random() < r.blur_p
        sigma = rng.uniform(*r.blur_sigma)
        out = image
        if jitters:
            values = image.astype(np.float32)
            for is_contrast in (contrast_first, not contrast_first):
                center = values.mean() if is_contrast else 0.0
                values = np.clip((values - center) * factors[is_contrast] + center, 0, 255)
            out = (values + 0.5).astype(np.uint8)
        if blurs:
            out = cv2.GaussianBlur(out, (0, 0), sigma).reshape(image.shape)
        return {"image": out}
