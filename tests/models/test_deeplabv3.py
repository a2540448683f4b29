from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from semiseg.models import deeplabv3
from semiseg.models.decoders import DeepLabV3Decoder


def parameters(*modules: nn.Module) -> int:
    return sum(p.numel() for module in modules for p in module.parameters())


@pytest.mark.parametrize("encoder", ["resnet50c", "resnet101c"])
def test_the_head_has_the_published_size(sketch: None, encoder: str):
    model = deeplabv3(encoder, 21)
    assert parameters(model.decoder, model.classifier) == 42_222_101
    assert parameters(model.decoder.pooled, model.decoder.local) == 30_413_824
    assert parameters(model.decoder.refine, model.classifier) == 11_808_277


def test_the_network_is_that_of_mmsegmentation(sketch: None):
    model = deeplabv3("resnet50c", 21)
    stem = [m for m in model.encoder.model.conv1 if isinstance(m, nn.Conv2d)]
    assert [tuple(m.weight.shape) for m in stem] == [(32, 3, 3, 3), (32, 32, 3, 3), (64, 32, 3, 3)]
    assert [block.conv2.dilation for block in model.encoder.model.layer3] == [(1, 1)] + 5 * [(2, 2)]
    assert [block.conv2.dilation for block in model.encoder.model.layer4] == [(2, 2), (4, 4), (4, 4)]
    features = model.features(torch.empty(2, 3, 512, 512))
    joined = model.decoder.join(features, model.decoder.context(features))
    assert joined.shape == (2, 2560, 64, 64) and model.decoder.refine(joined).shape == (2, 512, 64, 64)
    assert model.decoder.refine[1].p == 0.1 and not model.decoder.align_corners


@torch.no_grad()
def test_branches_are_pooled_one_by_one_and_dilated():
    decoder = DeepLabV3Decoder((99, 6), aspp_rates=(2, 3), width=4).eval()
    x = torch.randn(2, 6, 9, 7)
    pooled, one, two, three = decoder.context([torch.empty(0), x]).split(4, dim=1)
    norm = 1 / (1 + 1e-5) ** 0.5  # a fresh batch norm in evaluation mode
    mean = F.conv2d(F.adaptive_avg_pool2d(x, 1), decoder.pooled[0].weight).mul(norm).relu()
    torch.testing.assert_close(pooled, F.interpolate(mean, (9, 7), mode="bilinear", align_corners=False))
    for branch, module, dilation in zip((one, two, three), decoder.local, (1, 2, 3)):
        padding = dilation * (module[0].kernel_size[0] // 2)
        oracle = F.conv2d(x, module[0].weight, padding=padding, dilation=dilation) * norm
        torch.testing.assert_close(branch, oracle.relu())


@torch.no_grad()
def test_the_decoder_is_context_join_refine():
    decoder = DeepLabV3Decoder((6,), aspp_rates=(2,), width=4).eval()
    features = [torch.randn(1, 6, 5, 8)]
    joined = decoder.join(features, decoder.context(features))
    assert joined.shape[1] == decoder.join_channels == decoder.context_channels == 12
    assert torch.equal(decoder.refine(joined), decoder(features)) and decoder(features).shape == (1, 4, 5, 8)


def test_initial_values():
    torch.manual_seed(0)
    model = deeplabv3("resnet18", 21, width=64)
    assert model.classifier.weight.std().item() == pytest.approx(0.01, rel=0.1) and not model.classifier.bias.any()
    for conv, fan_out in ((model.decoder.refine[0][0], 9 * 64), (model.decoder.local[0][0], 64)):
        assert conv.bias is None
        assert conv.weight.std().item() == pytest.approx((2 / fan_out) ** 0.5, rel=0.05)


def test_whole_channels_are_dropped_in_training_only():
    decoder = DeepLabV3Decoder((6,), aspp_rates=(2,), width=64, dropout=0.5)
    decoder.refine[0] = nn.Conv2d(decoder.join_channels, 64, 1)  # no ReLU: every zero is a dropped one
    zero = decoder([torch.randn(2, 6, 5, 5)]) == 0
    assert torch.equal(zero.any(3).any(2), zero.all(3).all(2)) and 0.3 < zero.float().mean() < 0.7
    assert not (decoder.eval()([torch.randn(2, 6, 5, 5)]) == 0).any()


def test_one_image_needs_evaluation_mode():
    decoder = DeepLabV3Decoder((6,), aspp_rates=(2,), width=4)
    with pytest.raises(ValueError, match="more than 1 value per channel"):
        decoder.train()([torch.randn(1, 6, 5, 5)])
    assert decoder.eval()([torch.randn(1, 6, 5, 5)]).shape == (1, 4, 5, 5)
