"""Training views: a weak view and any number of strong views of one decoded image.

albumentations does the colors, plain OpenCV the geometry. Images stay uint8 here; normalization happens on the device.
The recipe is that of the UniMatch family (Yang et al. 2023, released code). Known differences: OpenCV's bilinear resize
does not antialias when downscaling, Pillow's does; hue is shifted in steps of 2 degrees; the blur is a true Gaussian
truncated at 3.5 sigma, which Pillow approximates.
"""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated

import albumentations as A
import numpy as np
from pydantic import Field

from semiseg.arguments import checked
from semiseg.data.batch import IGNORE, ViewSpec
from semiseg.data.views.channels import ChannelColors, ColorRanges
from semiseg.data.views.geometry import Geometry
from semiseg.errors import InputError
from semiseg.ops.boxes import LAWS, CutmixLaw

Probability = Annotated[float, Field(ge=0, le=1)]
Side = Annotated[int, Field(ge=1)]
Positive = Annotated[float, Field(gt=0)]


@dataclass(frozen=True)
class UnlabeledViews:
    """V strong views and the weak view of one image, all with the same geometry."""

    weak: np.ndarray  # (H, W, 3) uint8
    strong: np.ndarray  # (V, H, W, 3) uint8
    padded: np.ndarray  # (H, W) bool
    boxes: np.ndarray  # (V, R, 4) int64: y0, x0, y1, x1
    class_scores: np.ndarray  # (V, C) float32 in [0, 1)
    truth: np.ndarray | None  # (H, W) uint8


@checked
class TrainViews:
    """Random views for training.

    Args:
        crop_size: side of the square crop, or its (height, width), in pixels.
        scale: the long side is resized to a uniformly drawn integer between these multiples of itself.
        flip: probability of a horizontal flip.
        brightness, contrast, saturation: strong views multiply each by a uniform factor in 1 +- this value, in random
            order.
        hue: strong views shift the hue by a uniform fraction of the full circle in +- this value, at most 0.5.
        jitter_p: probability of applying these four together.
        gray_p: probability that a strong view is converted to gray.
        blur_sigma: range of the Gaussian's standard deviation, in pixels of the crop.
        blur_p: probability that a strong view is blurred.
        cutmix_law: how CutMix boxes are drawn: ``unimatch``, ``half``, ``u2pl`` or ``xor3``, see ``semiseg.ops.boxes``;
            None: as in the method's ``ViewSpec``.
        padding_label: label of padded pixels in labeled crops; the U2PL code uses 0, a real class.
        antialias: average the pixels of images that shrink, as Pillow and so the released codes do; slower.

    Raises:
        InputError: for a value out of range.
    """

    def __init__(
        self,
        crop_size: Side | tuple[Side, Side],
        *,
        scale: tuple[Positive, Positive] = (0.5, 2.0),
        flip: Probability = 0.5,
        brightness: Probability = 0.5,
        contrast: Probability = 0.5,
        saturation: Probability = 0.5,
        hue: Annotated[float, Field(ge=0, le=0.5)] = 0.25,
        jitter_p: Probability = 0.8,
        gray_p: Probability = 0.2,
        blur_sigma: tuple[Positive, Positive] = (0.1, 2.0),
        blur_p: Probability = 0.5,
        cutmix_law: CutmixLaw | None = None,
        padding_label: Annotated[int, Field(ge=0, le=IGNORE)] = IGNORE,
        antialias: bool = False,
    ) -> None:
        for name, (low, high) in (("scale", scale), ("blur_sigma", blur_sigma)):
            if low > high:
                raise InputError(f"transforms.{name}={[low, high]}: expected [low, high] with low <= high")
        self.crop = (crop_size, crop_size) if isinstance(crop_size, int) else (crop_size[0], crop_size[1])
        self.scale = (scale[0], scale[1])
        self.flip = flip
        self.cutmix_law = cutmix_law
        self.padding_label, self.antialias = padding_label, antialias
        self._ranges = ColorRanges(brightness, contrast, jitter_p, (blur_sigma[0], blur_sigma[1]), blur_p)
        self._recolor = A.Compose(
            [
                A.ColorJitter(brightness, contrast, saturation, hue, p=jitter_p),
                A.ToGray(p=gray_p),
                # blur_limit 0: the kernel size follows from sigma.
                A.GaussianBlur(blur_limit=0, sigma_limit=tuple(blur_sigma), p=blur_p),
            ]
        )

    def labeled(
        self, image: np.ndarray, mask: np.ndarray, rng: np.random.Generator, *, strong: bool = False
    ) -> tuple[np.ndarray, np.ndarray]:
        """Random geometry, plus color jitter and blur if ``strong``.

        Args:
            image: (H, W, 3) uint8.
            mask: (H, W) uint8.
            rng: the generator of this sample.
            strong: see ``ViewSpec.labeled_strong``.

        Returns:
            Crops of both, (crop, 3) and (crop) uint8; black and ``padding_label`` outside the image.
        """
        geometry = self.draw_geometry(image.shape[0], image.shape[1], rng)
        crop = geometry.image(image)
        if strong:
            crop = self._strong_colors(crop, rng)(image=crop)["image"]
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
        known: np.ndarray | None = None,
    ) -> UnlabeledViews:
        """The weak view and V strong views of the same crop.

        Views are drawn one after another, so an additional strong view does not change the earlier ones.

        Args:
            image: (H, W, 3) uint8.
            rng: the generator of this sample.
            spec: number of strong views V, their colors and CutMix boxes.
            n_classes: C, the length of a row of class scores.
            truth: (H, W) uint8 mask, transformed with the same geometry.
            known: (H, W) uint8 mask of a partly labeled image; labeled pixels are treated as padding, as they are
                learned in the labeled stream.
        """
        geometry = self.draw_geometry(image.shape[0], image.shape[1], rng)
        crop = geometry.image(image)
        weak = self._weakly_colored(crop, rng)
        draw_boxes = LAWS[self.cutmix_law or spec.cutmix_law]
        strong = np.empty((spec.strong, *crop.shape), dtype=np.uint8)
        boxes = []
        class_scores = np.empty((spec.strong, n_classes), dtype=np.float32)
        recolor = self._strong_colors(crop, rng)
        for view in range(spec.strong):
            strong[view] = recolor(image=crop)["image"] if spec.recolored else weak
            boxes.append(np.array(draw_boxes(*self.crop, rng), dtype=np.int64).reshape(-1, 4))
            class_scores[view] = rng.random(n_classes, dtype=np.float32)
        truth = None if truth is None else geometry.mask(truth)
        padded = geometry.padded()
        if known is not None:
            padded |= geometry.mask(known) != IGNORE
        stacked = np.stack(boxes) if boxes else np.empty((0, 1, 4), dtype=np.int64)
        return UnlabeledViews(weak, strong, padded, stacked, class_scores, truth)

    def _weakly_colored(self, crop: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Labeled images and weak views keep their colors."""
        return crop

    def _strong_colors(self, crop: np.ndarray, rng: np.random.Generator) -> Callable[..., dict[str, np.ndarray]]:
        """Strong colors, seeded; of other images than RGB only what is defined for them."""
        if crop.shape[2] != 3:
            return ChannelColors(rng, self._ranges)
        self._seed_colors(rng)
        return self._recolor

    def _seed_colors(self, rng: np.random.Generator) -> None:
        # albumentations draws from both kinds of generators, and uses its own by default.
        self._recolor.set_random_state(rng, random.Random(int(rng.integers(2**63))))

    def draw_geometry(self, height: int, width: int, rng: np.random.Generator) -> Geometry:
        """Draw resize, crop and flip for an image of this size, in pixels.

        The long side becomes a uniform integer in [int(low * long), int(high * long)]; the aspect ratio is kept.
        """
        long = max(height, width)
        target = int(rng.integers(int(self.scale[0] * long), int(self.scale[1] * long) + 1))
        # Rounded half up; at least 1, or a side of an extremely thin or small image would become 0.
        height, width = (max(1, int(side * target / long + 0.5)) for side in (height, width))
        top = int(rng.integers(max(height - self.crop[0], 0) + 1))
        left = int(rng.integers(max(width - self.crop[1], 0) + 1))
        return Geometry((height, width), self.crop, top, left, bool(rng.random() < self.flip), self.antialias)


@checked
class PaperViews(TrainViews, ABC):
    """Views with the color operations of a paper: only the geometry is configurable.

    Args:
        crop_size, scale, flip, cutmix_law: see ``TrainViews``.
    """

    def __init__(
        self,
        crop_size: Side | tuple[Side, Side],
        *,
        scale: tuple[Positive, Positive] = (0.5, 2.0),
        flip: Probability = 0.5,
        cutmix_law: CutmixLaw | None = None,
    ) -> None:
        super().__init__(crop_size, scale=scale, flip=flip, cutmix_law=cutmix_law)
        self._recolor = self._colors()

    @abstractmethod
    def _colors(self) -> A.BaseCompose:
        """The color operations of a strong view."""
