"""What the networks of a run say about images: uncertainty, features, and of which classes they are unsure."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from semiseg.config.settings import Settings
from semiseg.data.datasets.base import SegmentationDataset
from semiseg.errors import InputError
from semiseg.labeling import scores
from semiseg.training.assemble import assemble_method
from semiseg.training.predictor import Predictor, load_predictor

Uncertainty = Literal["entropy", "margin", "disagreement", "views"]

LONGEST = 512
"""Pixels of the longer side of an image whose features are taken."""


@dataclass(frozen=True)
class Opinions:
    """The networks that are asked.

    Args:
        network: the reported one.
        other: the one that ``disagreement`` compares it with.
    """

    network: Predictor
    other: Predictor | None = None


@dataclass(frozen=True)
class Signals:
    """What the networks do not know about N images.

    Attributes:
        ids: of the images.
        uncertainty: measure -> (N,) values in [0, 1].
        unsure: (N, C) share of the pixels of the image that have this class with less than the threshold.
    """

    ids: tuple[str, ...]
    uncertainty: dict[str, Tensor]
    unsure: Tensor


def load_opinions(
    settings: Settings, checkpoint: Mapping[str, Any], path: Path, *, both: bool = False, device: str | None = None
) -> Opinions:
    """The networks of a checkpoint.

    Args:
        settings: of the checkpoint.
        checkpoint: as loaded.
        path: of the checkpoint, for messages.
        both: load student and teacher, not only the reported network.
        device: None: a GPU if there is one.

    Raises:
        InputError: ``both`` of a method that has one network only.
    """
    network = load_predictor(settings, checkpoint, path, device=device)
    if not both:
        return Opinions(network)
    names = list(assemble_method(settings, checkpoint["semiseg"]["classes"]).evaluated())
    if len(names) < 2:
        raise InputError(
            f"disagreement compares student and teacher, and method={settings.method} has no teacher: choose views, "
            "entropy or margin"
        )
    return Opinions(network, load_predictor(settings, checkpoint, path, names[0], device))


def measure(
    opinions: Opinions,
    dataset: SegmentationDataset,
    ids: Sequence[str],
    measures: Collection[str],
    *,
    threshold: float,
    progress: bool = False,
) -> Signals:
    """Apply the networks to images, one at a time; no mask is opened.

    Args:
        opinions: the networks.
        dataset: where the images come from.
        ids: of the images, at least one.
        measures: of ``Uncertainty``; views and disagreement take a second forward pass.
        threshold: probability below which a pixel is unsure.
        progress: show a bar.

    Raises:
        InputError: an image cannot be read.
    """
    found: dict[str, list[Tensor]] = {name: [] for name in measures}
    unsure = []
    for image_id in tqdm(ids, unit="image", desc="looking", disable=None if progress else True):
        image = dataset.load_image(image_id)[None]
        probs = opinions.network(image)
        for name in measures:
            found[name].append(_uncertainty(name, probs, image, opinions).cpu().double())
        highest, labels = probs[0].max(0)
        counts = torch.bincount(labels[highest < threshold].flatten(), minlength=probs.shape[1])
        unsure.append(counts.cpu().double() / labels.numel())
    return Signals(tuple(ids), {name: torch.cat(values) for name, values in found.items()}, torch.stack(unsure))


def encode(predictor: Predictor, dataset: SegmentationDataset, ids: Sequence[str], *, progress: bool = False) -> Tensor:
    """(N, D) float64 features of images, each of length 1.

    Raises:
        InputError: an image cannot be read.
    """
    bar = tqdm(ids, unit="image", desc="encoding", disable=None if progress else True)
    return torch.stack([image_features(predictor, dataset.load_image(image_id)) for image_id in bar])


@torch.inference_mode()
def image_features(predictor: Predictor, image: np.ndarray) -> Tensor:
    """(H, W, 3) uint8 -> (D,) float64: the deepest map of the encoder, pooled, of length 1."""
    height, width = image.shape[:2]
    if (scale := LONGEST / max(height, width)) < 1:
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        image = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    maps: list[Tensor] = predictor.network.features(predictor.normalized(image[None]))  # type: ignore[operator]
    return scores.pooled(maps[-1].double())[0].cpu()


def _uncertainty(name: str, probs: Tensor, image: np.ndarray, opinions: Opinions) -> Tensor:
    """(1,): a measure of one image, whose (1, C, H, W) probabilities are at hand."""
    if name == "entropy":
        return scores.entropy(probs)
    if name == "margin":
        return scores.margin(probs)
    if name == "views":
        return scores.disagreement(probs, opinions.network(image[:, :, ::-1]).flip(3))
    assert opinions.other is not None, "disagreement needs two networks"
    return scores.disagreement(probs, opinions.other(image))
