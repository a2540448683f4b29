"""The views of AugSeg: a strong view gets a random number of color operations of random strength."""

from __future__ import annotations

from typing import Any

import albumentations as A
import cv2
import numpy as np

from semiseg.data.views.transforms import PaperViews


class AugSegViews(PaperViews):
    """Strong views of random intensity: one, two or three operations, each drawn independently from eleven.

    Labeled images and weak views keep their colors. Geometry and padding are those of ``TrainViews``; the AugSeg code
    resizes the long side to 0.5 to 2 times 500 pixels on Pascal, scales the two sides independently on Cityscapes, and
    pads with the mean color.

    Source: Zhao et al. 2023 (AugSeg, CVPR), operations and ranges as in the released code.
    """

    def _colors(self) -> A.BaseCompose:
        third = A.Sequential([operation()], p=0.5)
        # A second one with probability 2/3, a third in half of these cases: one, two or three are equally likely.
        return A.Compose([operation(), A.Sequential([operation(), third], p=2 / 3)])


def operation() -> A.OneOf:
    """One of the eleven operations, with equal probability."""
    less = (0.05, 0.95)  # factors of Pillow's enhancers: 0 is black, gray or smooth, 1 the image
    same = {"brightness": 0, "contrast": 0, "saturation": 0, "hue": 0, "p": 1}
    return A.OneOf(
        [
            A.NoOp(p=1),
            A.AutoContrast(method="pil", p=1),
            A.Equalize(mode="pil", p=1),
            A.GaussianBlur(blur_limit=0, sigma_limit=(0.1, 2.0), p=1),
            A.ColorJitter(**(same | {"contrast": less})),
            A.ColorJitter(**(same | {"brightness": less})),
            A.ColorJitter(**(same | {"saturation": less})),
            Softened(less, p=1),
            A.Posterize(num_bits=(4, 8), p=1),
            A.Solarize(threshold_range=(1 / 255, 1.0), p=1),
            A.ColorJitter(**(same | {"hue": (-0.5, 0.5)})),
        ],
        p=1,
    )


class Softened(A.ImageOnlyTransform):
    """Pillow's sharpness enhancer below 1: the image blended with a smoothed copy.

    Args:
        factor: range of the weight of the original image.
        p: probability.
    """

    def __init__(self, factor: tuple[float, float], p: float = 1.0) -> None:
        super().__init__(p=p)
        self.factor = factor

    def get_params(self) -> dict[str, Any]:
        """Draw the factor."""
        return {"factor": self.py_random.uniform(*self.factor)}

    def apply(self, img: np.ndarray, *, factor: float = 1.0, **params: Any) -> np.ndarray:
        """(H, W, 3) uint8 to the same shape and type; border pixels are not smoothed."""
        kernel = np.array([[1, 1, 1], [1, 5, 1], [1, 1, 1]], np.float32) / 13
        smooth = img.copy()
        smooth[1:-1, 1:-1] = cv2.filter2D(img, -1, kernel)[1:-1, 1:-1]
        return cv2.addWeighted(img, factor, smooth, 1 - factor, 0)
