"""Every family of encoders that timm has: maps, sizes, gradients, weights from a file. Random weights throughout."""

from __future__ import annotations

from pathlib import Path

import pytest
import timm
import torch

from semiseg.models import Segmentor, deeplabv3plus, dpt, segformer
from semiseg.models.encoders import build_encoder, encoder_normalization
from semiseg.models.encoders.from_timm import TimmEncoder, vit_taps
from semiseg.models.packaged import IMAGENET

PYRAMIDS = {
    "efficientnet": ("efficientnet_lite0", (4, 8, 16, 32), 1),
    "efficientnet_tf": ("tf_efficientnet_lite0", (4, 8, 16, 32), 1),
    "mobilenet_v2": ("mobilenetv2_035", (4, 8, 16, 32), 1),
    "mobilenet_v3": ("mobilenetv3_small_050", (4, 8, 16, 32), 1),
    "mobilenet_v4": ("mobilenetv4_conv_small_050", (4, 8, 16, 32), 1),
    "swin": ("swin_tiny_patch4_window7_224", (4, 8, 16, 32), 32),
    "convnext_v2": ("convnextv2_atto", (4, 8, 16, 32), 32),
    "convnext_dinov3": ("convnext_tiny.dinov3_lvd1689m", (4, 8, 16, 32), 32),
    "regnet": ("regnetx_002", (4, 8, 16, 32), 1),
}
PLAIN = {
    "vit": ("vit_tiny_patch16_224", 16),
    "eva": ("eva02_tiny_patch14_224", 14),
    "dinov3": ("dinov3_s", 16),
    "siglip": ("vit_base_patch16_siglip_224", 16),
    "radio": ("vit_base_patch16_radio_v3", 16),
}
NAMES = {family: entry[0] for family, entry in (PYRAMIDS | PLAIN).items()}


def network(family: str) -> Segmentor:
    if family in PLAIN:
        return dpt(NAMES[family], 5, width=8, level_channels=(8, 8, 8, 8))
    return segformer(NAMES[family], 5, width=8)


@pytest.mark.parametrize("family", PYRAMIDS)
@torch.no_grad()
def test_pyramids_have_the_stated_strides_at_odd_sizes(family: str):
    name, reductions, multiple = PYRAMIDS[family]
    encoder = build_encoder(name).eval()
    assert (encoder.reductions, encoder.size_multiple) == (reductions, multiple)
    assert not encoder.one_size
    height, width = (-(-n // multiple) * multiple for n in (75, 61))
    maps = encoder(torch.randn(1, 3, height, width))
    expected = [(1, c, -(-height // r), -(-width // r)) for c, r in zip(encoder.channels, reductions)]
    assert [tuple(m.shape) for m in maps] == expected


@pytest.mark.parametrize("family", PLAIN)
@torch.no_grad()
def test_plain_transformers_have_four_maps_of_one_size(family: str):
    name, patch = PLAIN[family]
    encoder = build_encoder(name).eval()
    assert encoder.one_size and encoder.reductions == (patch,) * 4 and encoder.size_multiple == patch
    assert encoder.indices == [2, 5, 8, 11]
    maps = encoder(torch.randn(1, 3, 2 * patch, 3 * patch))
    assert [tuple(m.shape) for m in maps] == [(1, encoder.channels[0], 2, 3)] * 4


@pytest.mark.parametrize("family", NAMES)
def test_logits_have_the_size_of_the_image_and_every_parameter_a_gradient(family: str):
    model = network(family).train()
    logits = model(torch.randn(2, 3, 45, 37))
    assert logits.shape == (2, 5, 45, 37)
    logits.square().mean().backward()
    assert [name for name, p in model.named_parameters() if p.requires_grad and p.grad is None] == []
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)


@pytest.mark.parametrize("family", NAMES)
def test_a_file_of_the_whole_network_is_read(family: str, tmp_path: Path):
    name = NAMES[family]
    encoder = build_encoder(name)
    assert isinstance(encoder, TimmEncoder)
    full = {"dinov3_s": "vit_small_patch16_dinov3"}.get(name, name)
    source = timm.create_model(full, num_classes=7).state_dict()
    torch.save(source, tmp_path / "whole.pth")
    loaded = build_encoder(name, weights=str(tmp_path / "whole.pth")).model.state_dict()
    assert loaded.keys() <= source.keys()
    assert loaded.keys() == encoder.model.state_dict().keys()
    assert all(torch.equal(loaded[key], source[key]) for key in loaded if loaded[key].shape == source[key].shape)


@pytest.mark.parametrize("name", ["tf_efficientnet_lite0", "regnetx_002", "convnextv2_atto", "mobilenetv2_035"])
@pytest.mark.parametrize("stride", [8, 16])
@torch.no_grad()
def test_dilated_encoders_keep_the_stride_asked_for(name: str, stride: int):
    model = deeplabv3plus(name, 5, output_stride=stride, width=8, low_level_width=4).eval()
    assert model.encoder.reductions[-1] == stride
    size = 64
    assert model.features(torch.randn(1, 3, size, size))[-1].shape[-1] == size // stride
    assert model(torch.randn(1, 3, 51, 43)).shape == (1, 5, 51, 43)


def test_taps_divide_the_blocks_into_quarters():
    assert vit_taps(12) == (2, 5, 8, 11)
    assert vit_taps(24) == (4, 11, 17, 23)  # as DINOv2's and DINOv3's code have it
    assert vit_taps(40) == (9, 19, 29, 39)


def test_normalization_is_what_the_weights_expect():
    half = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    for name in ("tf_efficientnet_lite0", "vit_base_patch16_siglip_224"):
        assert encoder_normalization(name) == IMAGENET  # random weights expect nothing
        assert encoder_normalization(name, "hub") == half
        assert encoder_normalization(name, "file.pth") == half
    assert encoder_normalization("tf_efficientnet_lite0", "package") == IMAGENET  # rewritten on loading
    for name in ("mit_b0", "resnet50s", "dinov2_s", "dinov3_l", "convnext_tiny"):
        assert encoder_normalization(name, "hub") == IMAGENET
    assert encoder_normalization("resnet18.a1_in1k", "hub") == IMAGENET
