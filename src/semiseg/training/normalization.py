"""Normalizes images as the encoder's weights expect."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from semiseg.data.datasets.base import IMAGENET_MEAN, IMAGENET_STD, SegmentationDataset
from semiseg.data.readers.bands import measure_statistics
from semiseg.models.encoders import encoder_normalization

log = logging.getLogger(__name__)


def measure_channels(dataset: SegmentationDataset, labeled: Sequence[str], unlabeled: Sequence[str]) -> None:
    """For images other than RGB, set the mean and standard deviation of each channel, measured on training images."""
    ids = sorted([*labeled, *unlabeled])
    dataset.mean, dataset.std = measure_statistics(dataset.load_image, ids, dataset.channels)
    shown = ([round(v, 4) for v in values] for values in (dataset.mean, dataset.std))
    log.info("data.channels=%d: normalized by measured mean %s, std %s", dataset.channels, *shown)


def follow_encoder(dataset: SegmentationDataset, encoder: str, weights: str) -> None:
    """Set a data set's mean and standard deviation to those that the encoder's weights expect, unless it has its own.

    Args:
        dataset: changed in place. Statistics other than ImageNet's, the default of every data set, are kept.
        encoder: name of the encoder, as in ``model.encoder``.
        weights: its initial weights, as in ``model.weights``.
    """
    own = (tuple(dataset.mean), tuple(dataset.std))
    if own != (IMAGENET_MEAN, IMAGENET_STD):
        return
    wanted = encoder_normalization(encoder, weights)
    if wanted != own:
        dataset.mean, dataset.std = wanted
        log.info("images are normalized as the weights of %s expect: mean %s, std %s", encoder, *map(list, wanted))
