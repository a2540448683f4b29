"""The views of MKD: photometric distortion for weak views, exactly one color operation for strong ones."""

from __future__ import annotations

import albumentations as A
import cv2
import numpy as np

from semiseg.data.views.transforms import PaperViews


class MKDViews(PaperViews):
    """The colors of MKD: labeled images and weak views are distorted, a strong view gets exactly one operation.

    Strong views are made from the crop before its distortion. Geometry and padding are those of ``TrainViews``; the MKD
    code resizes the long side to 0.5 to 2 times the crop instead of the image, and pads after the color operations. It
    works on BGR images, so red and blue swap their weights in gray, and the hue shifts in the other direction.

    Source: Yuan et al. 2023 (MKD), released code.
    """

    def _colors(self) -> A.BaseCompose:
        # Always exactly one; p is a weight here: 0.2, 0.33, 0.07, 0.07 and 0.33 of the images.
        return A.OneOf(
            [
                A.ColorJitter(brightness=0.5, contrast=0.5, saturation=0.5, hue=0.25, p=0.3),
                A.GaussianBlur(blur_limit=(3, 7), sigma_limit=(0.1, 2.0), p=0.5),
                A.Equalize(p=0.1),
                A.Solarize(threshold_range=(0.5, 0.5), p=0.1),  # inverts values of at least 128
                A.ToGray(p=0.5),
            ],
            p=1.0,
        )

    def _weakly_colored(self, crop: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        return distorted(crop, rng)


def distorted(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Photometric distortion: four changes, each with probability 1/2; values are clipped to 0..255 after each one.

    Brightness: values plus U[-32, 32]. Contrast: values times U[0.5, 1.5], before or after the next two with equal
    probability. Saturation times U[0.5, 1.5]. Hue plus an integer in [-18, 18), with 180 as the full circle.

    Args:
        image: (H, W, 3) uint8, RGB.
        rng: always the same number of values are drawn.
    Source: Liu et al. 2016 (SSD), as in mmsegmentation and the MKD code.
    """
    brightness, contrast, saturation, hue, contrast_last = rng.random(5) < 0.5
    plus, (times, richer), turn = rng.uniform(-32, 32), rng.uniform(0.5, 1.5, 2), int(rng.integers(-18, 18))
    levels = np.arange(256)
    scaled = _table(levels * times)
    if brightness:
        image = cv2.LUT(image, _table(levels + plus))
    if contrast and not contrast_last:
        image = cv2.LUT(image, scaled)
    if saturation or hue:
        h, s, v = cv2.split(cv2.cvtColor(image, cv2.COLOR_RGB2HSV))
        if saturation:
            s = cv2.LUT(s, _table(levels * richer))
        if hue:
            h = cv2.LUT(h, _table((levels + turn) % 180))
        image = cv2.cvtColor(cv2.merge([h, s, v]), cv2.COLOR_HSV2RGB)
    if contrast and contrast_last:
        image = cv2.LUT(image, scaled)
    return image


def _table(values: np.ndarray) -> np.ndarray:
    return values.clip(0, 255).astype(np.uint8)
