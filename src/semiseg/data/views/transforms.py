"""Training views: one decoded image in, a weak view and any number of strong views of it out.

The only module that knows albumentations; it does the colors, plain OpenCV the geometry. Images stay uint8
here, normalization happens on the device. The recipe is that of the UniMatch family (Yang et al. 2023,
released code). Known differences: OpenCV's linear resize does not antialias when it shrinks, Pillow's does;
hue is turned in steps of 2 degrees; the blur is a true Gaussian cut at 3.5 sigma, Pillow approximates it.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import albumentations as A
import cv2
import numpy as np

from semiseg.data.batch import IGNORE, ViewSpec
from semiseg.errors import InputError, suggest
from semiseg.ops.boxes import LAWS

# Every worker is one process on one core; OpenCV's own threads cost more than they give.
cv2.setNumThreads(0)
cv2.ocl.setUseOpenCL(False)


@dataclass(frozen=True)
class Geometry:
    """Resize, pad right and below, crop, flip: the same for an image, its mask and all its views.

    Args:
        resized: (height, width) of the whole image after the resize, in pixels.
        crop: (height, width) of the result.
        top, left: where the crop begins in the resized image.
        flip: mirror the crop, padding included.
    """

    resized: tuple[int, int]
    crop: tuple[int, int]
    top: int
    left: int
    flip: bool

    def image(self, image: np.ndarray) -> np.ndarray:
        """(H, W, 3) uint8 -> (crop, 3) uint8, linear, black where the crop leaves the image."""
        return self._cut_out(self._resize_image(image), fill=0)

    def mask(self, mask: np.ndarray, *, outside: int = IGNORE) -> np.ndarray:
        """(H, W) uint8 -> (crop) uint8, nearest, ``outside`` where the crop leaves the image."""
        # Plain INTER_NEAREST looks at a pixel's corner, not its center: masks would shift against images.
        resized = cv2.resize(mask, self.resized[::-1], interpolation=cv2.INTER_NEAREST_EXACT)
        return self._cut_out(resized, fill=outside)

    def padded(self) -> np.ndarray:
        """(crop) bool, True where the crop leaves the image."""
        padded = np.zeros(self.crop, dtype=bool)
        padded[self.resized[0] :] = True
        padded[:, self.resized[1] :] = True
        return padded[:, ::-1] if self.flip else padded

    def _resize_image(self, image: np.ndarray) -> np.ndarray:
        """The resized image, without most of what lies right of the crop and below it; the crop has the same pixels.

        What lies left and above stays, as OpenCV resizes from the corner only: a window that begins between two
        pixels would need other weights, and an exact warp (cv2.warpAffine) was slower at every scale below 2.
        """
        (height, width), (bottom, right) = image.shape[:2], (self.top + self.crop[0], self.left + self.crop[1])
        down, across = self.resized[0] / height, self.resized[1] / width
        # Two pixels more than the last one needs: its lower neighbor, and what rounding takes off.
        part = image[: bottom * height // self.resized[0] + 3, : right * width // self.resized[1] + 3]
        cut = cv2.resize(part, None, fx=across, fy=down, interpolation=cv2.INTER_LINEAR)
        # OpenCV copies when the size stays, even if the scale is not quite 1.
        if cut.shape == part.shape and self.resized != (height, width):
            return cv2.resize(image, self.resized[::-1], interpolation=cv2.INTER_LINEAR)
        return cut

    def _cut_out(self, resized: np.ndarray, *, fill: int) -> np.ndarray:
        array = resized[self.top : self.top + self.crop[0], self.left : self.left + self.crop[1]]
        below, right = self.crop[0] - array.shape[0], self.crop[1] - array.shape[1]
        if below or right:
            array = cv2.copyMakeBorder(array, 0, below, 0, right, cv2.BORDER_CONSTANT, value=(fill,) * 3)
        return cv2.flip(array, 1) if self.flip else np.ascontiguousarray(array)


@dataclass(frozen=True)
class UnlabeledViews:
    """V strong views and the weak view of one image, all with the same geometry."""

    weak: np.ndarray  # (H, W, 3) uint8
    strong: np.ndarray  # (V, H, W, 3) uint8
    padded: np.ndarray  # (H, W) bool
    boxes: np.ndarray  # (V, R, 4) int64: y0, x0, y1, x1
    class_scores: np.ndarray  # (V, C) float32 in [0, 1)
    truth: np.ndarray | None  # (H, W) uint8


class TrainViews:
    """Random views for training.

    Args:
        crop_size: side of the square crop, or its (height, width), in pixels.
        scale: the long side is resized to a uniform integer between these multiples of itself.
        flip: probability of a horizontal flip.
        brightness, contrast, saturation: strong views multiply each by a factor uniform in 1 +- this; in
            random order.
        hue: strong views turn the hue by a share of the full circle uniform in +- this, at most 0.5.
        jitter_p: probability of these four together.
        gray_p: probability that a strong view loses its colors.
        blur_sigma: range of the Gaussian's standard deviation, in pixels of the crop.
        blur_p: probability that a strong view is blurred.
        cutmix_law: how CutMix boxes are drawn: ``unimatch``, ``half``, ``u2pl`` or ``xor3``, see ``semiseg.ops.boxes``;
            None: as the method's ``ViewSpec`` says.
        padding_label: label of labeled images where the crop leaves them; the U2PL code has 0, a real class.

    Raises:
        InputError: a value out of its range.
    """

    def __init__(
        self,
        crop_size: int | Sequence[int],
        *,
        scale: Sequence[float] = (0.5, 2.0),
        flip: float = 0.5,
        brightness: float = 0.5,
        contrast: float = 0.5,
        saturation: float = 0.5,
        hue: float = 0.25,
        jitter_p: float = 0.8,
        gray_p: float = 0.2,
        blur_sigma: Sequence[float] = (0.1, 2.0),
        blur_p: float = 0.5,
        cutmix_law: Literal["unimatch", "half", "u2pl", "xor3"] | None = None,
        padding_label: int = IGNORE,
    ) -> None:
        crop = tuple(crop_size) if isinstance(crop_size, Sequence) else (crop_size, crop_size)
        if len(crop) != 2 or not all(isinstance(side, int) and side > 0 for side in crop):
            raise InputError(f"crop_size is {crop_size}: expected a number of pixels, or [height, width]")
        for name, pair in (("scale", scale), ("blur_sigma", blur_sigma)):
            if len(pair) != 2 or not 0 < pair[0] <= pair[1]:
                raise InputError(f"transforms.{name} is {pair}: expected [low, high] with 0 < low <= high")
        for name, p in (("flip", flip), ("jitter_p", jitter_p), ("gray_p", gray_p), ("blur_p", blur_p)):
            if not 0 <= p <= 1:
                raise InputError(f"transforms.{name} is {p}: expected a probability between 0 and 1")
        for name, amount in (("brightness", brightness), ("contrast", contrast), ("saturation", saturation)):
            if not 0 <= amount <= 1:
                raise InputError(f"transforms.{name} is {amount}: expected a value between 0 and 1")
        if not 0 <= hue <= 0.5:
            raise InputError(f"transforms.hue is {hue}: expected a value between 0 and 0.5")
        if cutmix_law is not None and cutmix_law not in LAWS:
            raise InputError(f"transforms.cutmix_law is '{cutmix_law}': {suggest(cutmix_law, LAWS)}")
        self.crop = crop
        self.scale = (scale[0], scale[1])
        self.flip = flip
        if not 0 <= padding_label <= IGNORE:
            raise InputError(f"transforms.padding_label is {padding_label}: expected a class or {IGNORE}")
        self.cutmix_law = cutmix_law
        self.padding_label = padding_label
        self._recolor = A.Compose(
            [
                A.ColorJitter(brightness, contrast, saturation, hue, p=jitter_p),
                A.ToGray(p=gray_p),
                # blur_limit 0: the kernel is as wide as its sigma asks for.
                A.GaussianBlur(blur_limit=0, sigma_limit=tuple(blur_sigma), p=blur_p),
            ]
        )

    def labeled(
        self, image: np.ndarray, mask: np.ndarray, rng: np.random.Generator, *, strong: bool = False
    ) -> tuple[np.ndarray, np.ndarray]:
        """Geometry, and colors and blur if ``strong``.

        Args:
            image: (H, W, 3) uint8.
            mask: (H, W) uint8.
            rng: the generator of this sample.
            strong: see ``ViewSpec.labeled_strong``.

        Returns:
            The crop of both; (crop, 3) and (crop) uint8, black and ``IGNORE`` where it leaves the image.
        """
        geometry = self.draw_geometry(image.shape[0], image.shape[1], rng)
        crop = geometry.image(image)
        if strong:
            self._seed_colors(rng)
            crop = self._recolor(image=crop)["image"]
        else:
            crop = self._weakly_colored(crop, rng)
        return crop, geometry.mask(mask, outside=self.padding_label)

    def unlabeled(
        self,
        image: np.ndarray,
        rng: np.random.Generator,
        *,
        spec: ViewSpec,
        n_classes: int,
        truth: np.ndarray | None = None,
    ) -> UnlabeledViews:
        """The weak view, and V strong views, each drawn from the same crop alone.

        One more strong view leaves the earlier ones as they are: a view is drawn completely before the next.

        Args:
            image: (H, W, 3) uint8.
            rng: the generator of this sample.
            spec: number of strong views V, their colors and CutMix boxes.
            n_classes: C, the length of a row of class scores.
            truth: (H, W) uint8 mask that shares the geometry.
        """
        geometry = self.draw_geometry(image.shape[0], image.shape[1], rng)
        crop = geometry.image(image)
        weak = self._weakly_colored(crop, rng)
        draw_boxes = LAWS[self.cutmix_law or spec.cutmix_law]
        strong = np.empty((spec.strong, *crop.shape), dtype=np.uint8)
        boxes = []
        class_scores = np.empty((spec.strong, n_classes), dtype=np.float32)
        self._seed_colors(rng)
        for view in range(spec.strong):
            strong[view] = self._recolor(image=crop)["image"] if spec.recolored else weak
            boxes.append(np.array(draw_boxes(*self.crop, rng), dtype=np.int64).reshape(-1, 4))
            class_scores[view] = rng.random(n_classes, dtype=np.float32)
        truth = None if truth is None else geometry.mask(truth)
        stacked = np.stack(boxes) if boxes else np.empty((0, 1, 4), dtype=np.int64)
        return UnlabeledViews(weak, strong, geometry.padded(), stacked, class_scores, truth)

    def _weakly_colored(self, crop: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Labeled images and weak views keep their colors."""
        return crop

    def _seed_colors(self, rng: np.random.Generator) -> None:
        # albumentations draws from both kinds of generator, and keeps its own unless told otherwise.
        self._recolor.set_random_state(rng, random.Random(int(rng.integers(2**63))))

    def draw_geometry(self, height: int, width: int, rng: np.random.Generator) -> Geometry:
        """Draw resize, crop and flip for an image of this size, in pixels.

        The long side becomes a uniform integer in [int(low * long), int(high * long)]; the ratio is kept.
        """
        long = max(height, width)
        target = int(rng.integers(int(self.scale[0] * long), int(self.scale[1] * long) + 1))
        # Rounded half up; at least 1, or a side of an extremely thin or small image would vanish.
        height, width = (max(1, int(side * target / long + 0.5)) for side in (height, width))
        top = int(rng.integers(max(height - self.crop[0], 0) + 1))
        left = int(rng.integers(max(width - self.crop[1], 0) + 1))
        return Geometry((height, width), self.crop, top, left, bool(rng.random() < self.flip))


class MKDViews(TrainViews):
    """The colors of MKD: labeled images and weak views are distorted, a strong view gets exactly one operation.

    Strong views come from the crop before its distortion. Geometry and padding are those of ``TrainViews``; the MKD
    code resizes the long side to 0.5 to 2 times the crop instead of the image, and pads after the colors. It works on
    BGR images: red and blue swap their part in grey, and the hue turns the other way.

    Args:
        crop_size, scale, flip, cutmix_law: see ``TrainViews``.

    Source: Yuan et al. 2023 (MKD), released code.
    """

    def __init__(
        self,
        crop_size: int | Sequence[int],
        *,
        scale: Sequence[float] = (0.5, 2.0),
        flip: float = 0.5,
        cutmix_law: Literal["unimatch", "half", "u2pl", "xor3"] | None = None,
    ) -> None:
        super().__init__(crop_size, scale=scale, flip=flip, cutmix_law=cutmix_law)
        # One of them, always; here p is a weight: 0.2, 0.33, 0.07, 0.07 and 0.33 of the images.
        self._recolor = A.OneOf(
            [
                A.ColorJitter(brightness=0.5, contrast=0.5, saturation=0.5, hue=0.25, p=0.3),
                A.GaussianBlur(blur_limit=(3, 7), sigma_limit=(0.1, 2.0), p=0.5),
                A.Equalize(p=0.1),
                A.Solarize(threshold_range=(0.5, 0.5), p=0.1),  # from 128 of 255 on
                A.ToGray(p=0.5),
            ],
            p=1.0,
        )

    def _weakly_colored(self, crop: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        return distorted(crop, rng)


def distorted(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Photometric distortion: each of four changes with probability 1/2, cut to 0..255 in between.

    Brightness plus U[-32, 32]; contrast, the values themselves, times U[0.5, 1.5], before or after the other two with
    equal chance; saturation times U[0.5, 1.5]; hue plus an integer in [-18, 18) of 180, the full circle.

    Args:
        image: (H, W, 3) uint8, RGB.
        rng: draws the same number of values whatever they are.
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
