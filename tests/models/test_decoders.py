from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from semiseg.models import segformer, tiny
from semiseg.models.decoders import DeepLabV3PlusDecoder, DPTDecoder, SegFormerDecoder
from semiseg.models.decoders.deeplabv3plus import ASPP
from semiseg.models.tiny import PyramidDecoder


def bilinear(x: torch.Tensor, like: torch.Tensor, align_corners: bool) -> torch.Tensor:
    return F.interpolate(x, like.shape[-2:], mode="bilinear", align_corners=align_corners)


@torch.no_grad()
def test_aspp_branches_are_independent_convolutions():
    aspp = ASPP(6, (2, 3), 4).eval()
    x = torch.randn(2, 6, 9, 7)
    branches = aspp.branches(x)
    assert branches.shape == (2, 16, 9, 7)
    one, two, three, pooled = branches.split(4, dim=1)
    norm = 1 / (1 + 1e-5) ** 0.5  # a fresh batch norm in evaluation mode
    for branch, module, dilation in zip((one, two, three), aspp.local, (1, 2, 3)):
        weight = module[0].weight
        padding = dilation * (weight.shape[-1] // 2)
        oracle = F.conv2d(x, weight, padding=padding, dilation=dilation) * norm
        torch.testing.assert_close(branch, oracle.relu())
    mean = F.conv2d(F.adaptive_avg_pool2d(x, 1), aspp.pooled[0].weight).mul(norm).relu()
    torch.testing.assert_close(pooled, F.interpolate(mean, (9, 7), mode="bilinear", align_corners=True))
    torch.testing.assert_close(aspp(x), aspp.project(branches))


def test_aspp_on_one_image():
    aspp = ASPP(6, (2,), 4)
    with pytest.raises(ValueError, match="more than 1 value per channel"):
        aspp.train()(torch.randn(1, 6, 3, 3))
    assert aspp.eval()(torch.randn(1, 6, 3, 3)).shape == (1, 4, 3, 3)
    assert aspp.eval()(torch.randn(1, 6, 1, 1)).shape == (1, 4, 1, 1)


@torch.no_grad()
def test_deeplab_joins_coarse_before_fine():
    decoder = DeepLabV3PlusDecoder((8, 99, 99, 16), aspp_rates=(1, 2), width=4, low_level_width=3).eval()
    fine, coarse = torch.randn(1, 8, 13, 9), torch.randn(1, 16, 4, 3)
    context = bilinear(decoder.aspp(coarse), fine, align_corners=True)
    oracle = decoder.refine(torch.cat([context, decoder.low_level(fine)], dim=1))
    torch.testing.assert_close(decoder([fine, torch.empty(0), torch.empty(0), coarse]), oracle)
    torch.testing.assert_close(decoder([fine, coarse]), oracle)


@torch.no_grad()
def test_deeplab_drops_channels_in_training_only_and_only_if_asked():
    features = [torch.randn(2, 8, 13, 9), torch.randn(2, 16, 4, 3)]
    for dropout in (0.0, 0.5):
        decoder = DeepLabV3PlusDecoder((8, 16), aspp_rates=(1,), width=4, low_level_width=3, dropout=dropout)
        assert torch.equal(decoder.eval()(features), decoder(features))
        one, two = decoder.train()(features), decoder(features)
        assert torch.equal(one, two) == (dropout == 0)


def test_segformer_equals_fusing_the_concatenation():
    decoder = SegFormerDecoder((4, 6, 8, 10), width=12, dropout=0.5).eval()
    features = [torch.randn(2, c, s, s + 3, requires_grad=True) for c, s in ((4, 17), (6, 9), (8, 5), (10, 3))]
    maps = [linear(f) for linear, f in zip(decoder.linear, features)]
    joined = torch.cat([bilinear(m, features[0], align_corners=False) for m in reversed(maps)], dim=1)
    ours, theirs = decoder(features), decoder.refine(decoder.fuse(joined))
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)
    inputs, weight = [*features, *decoder.linear.parameters(), decoder.fuse.weight], torch.randn_like(ours)
    for a, b in zip(*(torch.autograd.grad((x * weight).sum(), inputs) for x in (ours, theirs))):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("build", [lambda: tiny(5, width=8), lambda: segformer("mit_b0", 5, width=16)])
@torch.no_grad()
def test_a_decoder_is_context_join_refine(build):
    decoder = (model := build().eval()).decoder
    features = model.features(torch.randn(2, 3, 40, 56))
    context = decoder.context(features)
    joined = decoder.join(features, context)
    assert context.shape[1] == decoder.context_channels and context.shape[-2:] == features[-1].shape[-2:]
    assert joined.shape[1] == decoder.join_channels
    assert torch.equal(decoder.refine(joined), model.decode(features))
    assert decoder.refine(joined).shape[1] == decoder.out_channels
    # What is done to the context reaches the result: the coarsest map is not read a second time.
    assert not torch.equal(decoder.join(features, context + 1), joined)


@pytest.mark.parametrize("size", [(1, 1), (1, 40), (2, 3), (28, 28), (29, 30), (33, 47)])
@torch.no_grad()
def test_segformer_takes_any_size_from_one_pixel_up(size: tuple[int, int]):
    logits = segformer("mit_b0", 5, width=16).eval()(torch.randn(1, 3, *size))
    assert logits.shape == (1, 5, *size) and logits.isfinite().all()


def test_segformer_drops_whole_channels_in_training_only():
    decoder = SegFormerDecoder((4, 6), width=64, dropout=0.5)
    features = [torch.randn(2, 4, 8, 8), torch.randn(2, 6, 4, 4)]

    def dead() -> float:
        return (decoder(features) == 0).all((2, 3)).float().mean().item()

    assert 0.3 < dead() < 0.7
    decoder.eval()
    assert dead() < 0.1


@torch.no_grad()
def test_dpt_equals_the_published_order():
    decoder = DPTDecoder((6, 6, 6, 6), width=5, level_channels=(2, 3, 4, 7)).eval()
    features = [torch.randn(1, 6, 3, 5) for _ in range(4)]
    levels = [block(f) for block, f in zip(decoder.reassemble, features)]
    assert [tuple(x.shape) for x in levels] == [(1, 5, 12, 20), (1, 5, 6, 10), (1, 5, 3, 5), (1, 5, 2, 3)]

    def unit(module: nn.Module, x: torch.Tensor) -> torch.Tensor:
        _, first, _, second = module.layers
        return second(first(x.relu()).relu()) + x

    x = unit(decoder.fuse[3], levels[3])
    x = decoder.project[3](bilinear(x, levels[2], align_corners=True))
    for i in (2, 1):
        x = unit(decoder.fuse[i], x + unit(decoder.skip[i], levels[i]))
        x = decoder.project[i](bilinear(x, levels[i - 1], align_corners=True))
    x = unit(decoder.fuse[0], x + unit(decoder.skip[0], levels[0]))
    x = decoder.project[0](F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=True))
    oracle = decoder.refine[0](x).relu()
    assert oracle.shape == (1, 5, 24, 40)
    torch.testing.assert_close(decoder(features), oracle, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_decoders_leave_the_features_alone():
    features = [torch.randn(1, 6, s, s) for s in (8, 4, 2, 2)]
    flat = [torch.randn(1, 6, 3, 3) for _ in range(4)]
    for decoder, maps in (
        (DeepLabV3PlusDecoder([6] * 4, width=4, low_level_width=4), features),
        (SegFormerDecoder([6] * 4, width=4), features),
        (DPTDecoder([6] * 4, width=4, level_channels=[4] * 4), flat),
        (PyramidDecoder([6] * 4, width=4), features),
    ):
        before = [f.clone() for f in maps]
        assert decoder.eval()(maps).shape[1] == decoder.out_channels == 4
        assert all(torch.equal(a, b) for a, b in zip(before, maps))


@torch.no_grad()
def test_pyramid_is_a_sum_of_levels():
    decoder = PyramidDecoder((3, 4, 5), width=2).eval()
    fine, middle, coarse = torch.randn(1, 3, 9, 7), torch.randn(1, 4, 5, 4), torch.randn(1, 5, 3, 2)
    x = decoder.lateral[1](middle) + bilinear(decoder.lateral[2](coarse), middle, align_corners=False)
    x = decoder.lateral[0](fine) + bilinear(x, fine, align_corners=False)
    torch.testing.assert_close(decoder([fine, middle, coarse]), decoder.refine(x))
