"""Inference on whole images: each class maps (model, images) to class probabilities.

All modes return (B, C, H, W) float32 probabilities at the size of the input images (``CenterCrop``: of the crop), for
any H and W that the model accepts; ``most_probable`` gives the labels. C is taken from the model's output. No gradients
are recorded; eval mode, device and autocast are up to the caller.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from semiseg.arguments import checked
from semiseg.errors import InputError
from semiseg.ops.ranges import Count, Positive

Model = Callable[[Tensor], Tensor]
"""(B, 3, H, W) normalized images -> (B, C, H, W) logits."""
Side = Count | tuple[Count, Count]
"""Pixels: one number for both sides, or (height, width)."""


class Inference(ABC):
    """A way of applying a model to whole images."""

    @torch.no_grad()
    def __call__(self, model: Model, images: Tensor) -> Tensor:
        """(B, 3, H, W) normalized images -> (B, C, H, W) probabilities."""
        return self._probabilities(model, images)

    @abstractmethod
    def _probabilities(self, model: Model, images: Tensor) -> Tensor:
        """Implements ``__call__``, which disables gradients."""

    def crop_labels(self, labels: Tensor) -> Tensor:
        """The part of (B, H, W) labels that the probabilities cover: all of it, except for ``CenterCrop``."""
        return labels


class Whole(Inference):
    """One forward pass at the original size."""

    def _probabilities(self, model: Model, images: Tensor) -> Tensor:
        return _softmax(model(images))


@checked
class Resize(Inference):
    """One forward pass at another size; the logits are resized back to the original size.

    Exactly one of the first three arguments must be given.

    Args:
        multiple: round each side to the nearest multiple of this, at least one multiple (patch encoders).
        size: a fixed size in pixels, one side or (H, W).
        within: (short, long) in pixels: the largest size with the same aspect ratio within these limits; smaller
            images are enlarged. [512, 512] fits into a square; [512, 2048] is "short side 512".
        align_corners: for both bilinear resizes.

    Source: multiple is UniMatch V2's "original" mode, int(x / 14 + 0.5) * 14 with aligned corners; within is the
    test size of MKD and GuidedMix-Net (mmsegmentation), int(x * scale + 0.5) without aligned corners.
    """

    def __init__(
        self,
        multiple: Count | None = None,
        size: Side | None = None,
        within: tuple[Count, Count] | None = None,
        align_corners: bool = True,
    ) -> None:
        if sum(value is not None for value in (multiple, size, within)) != 1:
            raise InputError(
                f"eval: set one of multiple, size and within, got multiple={multiple}, size={size}, within={within}"
            )
        self.multiple = multiple
        self.size = None if size is None else _pair(size)
        self.within = within
        if within and within[0] > within[1]:
            raise InputError(f"eval.within={list(within)}: expected the limit of the short side first")
        self.align_corners = align_corners

    def _probabilities(self, model: Model, images: Tensor) -> Tensor:
        original = images.shape[-2:]
        logits = model(_resize(images, self._size(*original), align_corners=self.align_corners)).float()
        return _softmax(_resize(logits, original, align_corners=self.align_corners))

    def _size(self, height: int, width: int) -> tuple[int, int]:
        """Height and width of the forward pass."""
        if self.size is not None:
            return self.size
        if self.within is not None:
            short, long = self.within
            scale = min(short / min(height, width), long / max(height, width))
            return max(1, int(height * scale + 0.5)), max(1, int(width * scale + 0.5))
        return self._nearest(height), self._nearest(width)

    def _nearest(self, side: int) -> int:
        assert self.multiple is not None  # one of the three is given
        return max(1, int(side / self.multiple + 0.5)) * self.multiple


@checked
class Sliding(Inference):
    """Overlapping windows; the probabilities of a pixel are averaged over the windows that contain it.

    Args:
        window: pixels, one side or (H, W).
        stride: step between windows as a fraction of the window; floor(window * stride) pixels.
        border: treatment of windows that would extend past the image. ``shift`` moves them back inside, so that all
            windows are full; an image smaller than the window is padded with zeros (the mean color) at the bottom and
            right, for the forward pass only. ``clip`` cuts them off, so that the model sees thin windows, down to one
            pixel.
        batch: windows per forward pass. Windows of all images of a batch are combined.

    Source: ``clip`` is UniMatch, ``shift`` UniMatch V2 (whose loop never terminates for an image smaller than the
    window). Both sum without dividing by the overlap, which has the same argmax.
    """

    def __init__(
        self,
        window: Side,
        stride: Annotated[float, Field(gt=0, le=1)] = 2 / 3,
        border: Literal["shift", "clip"] = "shift",
        batch: Count = 8,
    ) -> None:
        self.window = _pair(window)
        # The margin keeps rounding errors from losing a pixel.
        self.step = tuple(int(x * stride + 1e-6) for x in self.window)
        if min(self.step) < 1:
            raise InputError(f"eval.stride={stride}: must be at least one pixel of the window {list(self.window)}")
        self.border, self.batch = border, batch

    def spans(self, size: int, axis: int) -> list[tuple[int, int]]:
        """Start and end of the windows along ``axis`` (0: rows, 1: columns), ``size`` pixels long."""
        window, step = self.window[axis], self.step[axis]
        if self.border == "clip":
            return [(start, min(start + window, size)) for start in range(0, size, step)]
        last = max(size - window, 0)
        return [(start, start + window) for start in [*range(0, last, step), last]]

    def _probabilities(self, model: Model, images: Tensor) -> Tensor:
        height, width = images.shape[-2:]
        rows, cols = self.spans(height, 0), self.spans(width, 1)
        # Pads nothing unless the image is smaller than the window.
        images = F.pad(images, (0, cols[-1][1] - width, 0, rows[-1][1] - height))

        # Only windows of equal size share a forward pass: one group, unless border windows are clipped.
        groups: dict[tuple[int, int], list[tuple[int, slice, slice]]] = {}
        for image in range(len(images)):
            for top, bottom in rows:
                for left, right in cols:
                    box = (image, slice(top, bottom), slice(left, right))
                    groups.setdefault((bottom - top, right - left), []).append(box)

        total = None
        for boxes in groups.values():
            for first in range(0, len(boxes), self.batch):
                chunk = boxes[first : first + self.batch]
                probs = _softmax(model(torch.stack([images[i, :, ys, xs] for i, ys, xs in chunk])))
                if total is None:
                    total = probs.new_zeros(len(images), probs.shape[1], *images.shape[-2:])
                for (i, ys, xs), window_probs in zip(chunk, probs, strict=True):
                    total[i, :, ys, xs] += window_probs
        assert total is not None  # every image has a window
        by_row = _coverage(rows, total.new_zeros(total.shape[-2]))
        by_col = _coverage(cols, total.new_zeros(total.shape[-1]))
        return total.div_(by_row[:, None] * by_col)[..., :height, :width]


@checked
class CenterCrop(Inference):
    """Only the central crop, or the full side where the image is smaller; ``crop_labels`` crops the labels.

    Args:
        size: pixels, one side or (H, W).

    Source: in-training validation of U2PL and CorrMatch on Cityscapes; not comparable to whole-image numbers.
    """

    def __init__(self, size: Side) -> None:
        self.size = _pair(size)

    def _probabilities(self, model: Model, images: Tensor) -> Tensor:
        return _softmax(model(self.crop_labels(images)))

    def crop_labels(self, labels: Tensor) -> Tensor:
        """The central crop of (..., H, W); an odd margin is larger below and to the right."""
        for axis, side in zip((-2, -1), self.size, strict=True):
            side = min(side, labels.shape[axis])
            labels = labels.narrow(axis, (labels.shape[axis] - side) // 2, side)
        return labels


@checked
class TestTimeAugmentation(Inference):
    """Probabilities of another mode, averaged over resized and flipped copies of the images.

    Args:
        base: the mode applied to each copy; not ``CenterCrop``, whose crop would differ between copies.
        scales: factors for both sides, bilinear; sides are rounded to pixels.
        flip: add a horizontally flipped copy at every scale.
    """

    __test__ = False  # pytest would collect it because of its name

    def __init__(
        self, base: Inference, scales: Annotated[tuple[Positive, ...], Field(min_length=1)] = (1.0,), flip: bool = False
    ) -> None:
        if isinstance(base, CenterCrop):
            raise InputError("eval.base: CenterCrop cannot be augmented; choose Whole, Resize or Sliding")
        self.base, self.scales, self.flip = base, tuple(scales), flip

    def _probabilities(self, model: Model, images: Tensor) -> Tensor:
        original = images.shape[-2:]
        total = None
        for scale in self.scales:
            height, width = (max(1, round(x * scale)) for x in original)
            scaled = _resize(images, (height, width))
            probs = self.base(model, scaled)
            if self.flip:
                probs = (probs + self.base(model, scaled.flip(-1)).flip(-1)) / 2
            probs = _resize(probs, original)
            total = probs if total is None else total + probs
        assert total is not None  # there is a scale
        return total / len(self.scales)


def most_probable(probs: Tensor) -> Tensor:
    """(B, C, H, W) probabilities, or logits -> (B, H, W) long, the class of each pixel."""
    return probs.max(1).indices  # same as argmax(1), which is up to five times slower on a CPU


def _softmax(logits: Tensor) -> Tensor:
    # float32 regardless of autocast: half-precision probabilities tie, and ties change the argmax.
    return logits.softmax(1, dtype=torch.float32)


def _resize(x: Tensor, size: Sequence[int], *, align_corners: bool = False) -> Tensor:
    if tuple(x.shape[-2:]) == tuple(size):
        return x
    return F.interpolate(x, size=tuple(size), mode="bilinear", align_corners=align_corners)


def _coverage(spans: list[tuple[int, int]], count: Tensor) -> Tensor:
    """Add to ``count``, one number per pixel of an axis, how many of ``spans`` contain that pixel."""
    for start, end in spans:
        count[start:end] += 1
    return count


def _pair(side: Side) -> tuple[int, int]:
    return (side, side) if isinstance(side, int) else (side[0], side[1])
