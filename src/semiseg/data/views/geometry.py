"""Resize, pad, crop and flip with OpenCV: the same for an image, its mask and all its views."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from semiseg.data.batch import IGNORE

# Every worker is one process on one core; OpenCV's own threads would slow it down.
cv2.setNumThreads(0)
cv2.ocl.setUseOpenCL(False)


@dataclass(frozen=True)
class Geometry:
    """Resize, pad at the right and bottom, crop, flip: the same for an image, its mask and all its views.

    Args:
        resized: (height, width) of the whole image after the resize, in pixels.
        crop: (height, width) of the result.
        top, left: where the crop begins in the resized image.
        flip: mirror the crop, padding included.
        antialias: average the pixels of an image that shrinks, as Pillow does, instead of interpolating between them.
    """

    resized: tuple[int, int]
    crop: tuple[int, int]
    top: int
    left: int
    flip: bool
    antialias: bool = False

    def image(self, image: np.ndarray) -> np.ndarray:
        """(H, W, N) uint8 -> (crop, N) uint8, bilinear (see ``antialias``), black outside the image."""
        cut = self._cut_out(self._resize_image(image), fill=0)
        return cut if cut.ndim == 3 else cut[..., None]  # OpenCV drops a single channel

    def mask(self, mask: np.ndarray, *, outside: int = IGNORE) -> np.ndarray:
        """(H, W) uint8 -> (crop) uint8, nearest neighbor, ``outside`` outside the image."""
        # Plain INTER_NEAREST samples at a pixel's corner, not its center: masks would be shifted against images.
        resized = cv2.resize(mask, self.resized[::-1], interpolation=cv2.INTER_NEAREST_EXACT)
        return self._cut_out(resized, fill=outside)

    def padded(self) -> np.ndarray:
        """(crop) bool, True outside the image."""
        padded = np.zeros(self.crop, dtype=bool)
        padded[self.resized[0] :] = True
        padded[:, self.resized[1] :] = True
        return padded[:, ::-1] if self.flip else padded

    def _resize_image(self, image: np.ndarray) -> np.ndarray:
        """The resized image without most of the part to the right of and below the crop; the crop is unchanged.

        The part to the left and above is kept, as OpenCV resizes from the corner only: a window that starts between two
        pixels would need other weights, and an exact warp (cv2.warpAffine) was slower at every scale below 2.
        """
        (height, width), (bottom, right) = image.shape[:2], (self.top + self.crop[0], self.left + self.crop[1])
        down, across = self.resized[0] / height, self.resized[1] / width
        # Two extra pixels: one for the last pixel's neighbor, one for rounding.
        part = image[: bottom * height // self.resized[0] + 3, : right * width // self.resized[1] + 3]
        how = cv2.INTER_AREA if self.antialias and down < 1 and across < 1 else cv2.INTER_LINEAR
        cut = cv2.resize(part, None, fx=across, fy=down, interpolation=how)
        # OpenCV copies if the size does not change, even if the scale is not exactly 1.
        if cut.shape[:2] == part.shape[:2] and self.resized != (height, width):
            return cv2.resize(image, self.resized[::-1], interpolation=how)
        return cut

    def _cut_out(self, resized: np.ndarray, *, fill: int) -> np.ndarray:
        array = resized[self.top : self.top + self.crop[0], self.left : self.left + self.crop[1]]
        below, right = self.crop[0] - array.shape[0], self.crop[1] - array.shape[1]
        if below or right:
            array = cv2.copyMakeBorder(array, 0, below, 0, right, cv2.BORDER_CONSTANT, value=(fill,) * 3)
        return cv2.flip(array, 1) if self.flip else np.ascontiguousarray(array)
