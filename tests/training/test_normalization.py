"""Images are normalized as the encoder's weights expect."""

from __future__ import annotations

import logging
from types import SimpleNamespace

import pytest

from semiseg.data.datasets.base import IMAGENET_MEAN, IMAGENET_STD
from semiseg.training.normalization import follow_encoder

HALF = (0.5, 0.5, 0.5)


def images(mean: tuple[float, ...] = IMAGENET_MEAN, std: tuple[float, ...] = IMAGENET_STD) -> SimpleNamespace:
    return SimpleNamespace(mean=mean, std=std)


def test_weights_of_other_statistics_are_followed_and_named(caplog: pytest.LogCaptureFixture):
    dataset = images()
    with caplog.at_level(logging.INFO):
        follow_encoder(dataset, "vit_base_patch16_siglip_224", "weights.pth")
    assert (dataset.mean, dataset.std) == (HALF, HALF)
    assert "vit_base_patch16_siglip_224" in caplog.text and "0.5" in caplog.text


@pytest.mark.parametrize("weights", ["none", "package"])
def test_random_and_packaged_weights_keep_imagenet(weights: str, caplog: pytest.LogCaptureFixture):
    dataset = images()
    with caplog.at_level(logging.INFO):
        follow_encoder(dataset, "tf_efficientnet_lite0", weights)
    assert (dataset.mean, dataset.std) == (IMAGENET_MEAN, IMAGENET_STD) and not caplog.text


def test_a_data_set_with_statistics_of_its_own_keeps_them():
    dataset = images(mean=(0.1, 0.2, 0.3))
    follow_encoder(dataset, "vit_base_patch16_siglip_224", "hub")
    assert dataset.mean == (0.1, 0.2, 0.3)
