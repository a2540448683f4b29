from __future__ import annotations

import pytest
import torch
from torch import nn

from semiseg.errors import InputError
from semiseg.models import deeplabv3plus, dpt, segformer, tiny
from semiseg.models.encoders import Encoder, build_encoder


def sizes(encoder: Encoder, height: int, width: int) -> list[tuple[int, ...]]:
    return [tuple(f.shape[1:]) for f in encoder(torch.empty(1, 3, height, width))]


def test_deep_stem_resnet_at_stride_16(sketch: None):
    encoder = build_encoder("resnet50s", output_stride=16)
    assert sizes(encoder, 321, 321) == [(256, 81, 81), (512, 41, 41), (1024, 21, 21), (2048, 21, 21)]
    assert encoder.channels == (256, 512, 1024, 2048)
    assert encoder.reductions == (4, 8, 16, 16)
    stem = [m for m in encoder.model.conv1 if isinstance(m, nn.Conv2d)]
    assert [tuple(m.weight.shape) for m in stem] == [(64, 3, 3, 3), (64, 64, 3, 3), (128, 64, 3, 3)]
    assert [m.stride for m in stem] == [(2, 2), (1, 1), (1, 1)]
    assert [block.conv2.dilation for block in encoder.model.layer4] == [(1, 1), (2, 2), (2, 2)]
    assert {block.conv2.stride for block in encoder.model.layer4} == {(1, 1)}


def test_resnet_at_stride_8(sketch: None):
    encoder = build_encoder("resnet50", output_stride=8)
    assert sizes(encoder, 513, 801) == [(256, 129, 201), (512, 65, 101), (1024, 65, 101), (2048, 65, 101)]
    assert [b.conv2.dilation for b in encoder.model.layer3] == [(1, 1)] + 5 * [(2, 2)]
    assert [b.conv2.dilation for b in encoder.model.layer4] == [(2, 2), (4, 4), (4, 4)]


def test_resnet_at_stride_32_is_the_default(sketch: None):
    encoder = build_encoder("resnet50c")
    assert encoder.reductions == (4, 8, 16, 32)
    assert sizes(encoder, 65, 65)[-1] == (2048, 3, 3)


def test_convnext_covers_every_pixel(sketch: None):
    encoder = build_encoder("convnext_tiny", output_stride=16)
    assert encoder.size_multiple == 16
    assert sizes(encoder, 64, 96) == [(96, 16, 24), (192, 8, 12), (384, 4, 6), (768, 4, 6)]


def test_mit_maps_of_the_usual_crops(sketch: None):
    encoder = build_encoder("mit_b1")
    assert encoder.channels == (64, 128, 320, 512)
    assert [s[1] for s in sizes(encoder, 513, 513)] == [129, 65, 33, 17]
    assert [s[1] for s in sizes(encoder, 801, 801)] == [201, 101, 51, 26]


def test_dinov2_taps_pass_the_final_norm():
    encoder = build_encoder("dinov2_s").eval()
    assert (encoder.size_multiple, encoder.reductions) == (14, (14, 14, 14, 14))
    with torch.no_grad():
        encoder.model.norm.weight.fill_(2.0)
        encoder.model.norm.bias.fill_(0.5)
        features = encoder(torch.randn(1, 3, 28, 42))
        tokens = encoder.model.patch_embed(torch.zeros(1, 3, 28, 42))
    assert tokens.shape[1:3] == (2, 3)
    for f in features:
        assert f.shape == (1, 384, 2, 3)
        # A layer norm with that weight and bias: mean 0.5 and deviation 2 over the channels.
        torch.testing.assert_close(f.mean(1), torch.full((1, 2, 3), 0.5), rtol=0, atol=1e-4)
        torch.testing.assert_close(f.std(1, correction=0), torch.full((1, 2, 3), 2.0), rtol=1e-3, atol=0)
    assert not torch.allclose(features[0], features[1])


def test_dinov2_taps_the_published_blocks(sketch: None):
    assert build_encoder("dinov2_b").indices == [2, 5, 8, 11]
    large = build_encoder("dinov2_l")
    assert large.indices == [4, 11, 17, 23]
    assert len(large.model.blocks) == 24


def parameters(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


@pytest.mark.parametrize("name, encoder_m, total_m", [("resnet50s", 23.6, 40.5), ("resnet101s", 42.6, 59.5)])
def test_deeplab_has_the_published_size(sketch: None, name: str, encoder_m: float, total_m: float):
    model = deeplabv3plus(name, 21)
    assert parameters(model.encoder) / 1e6 == pytest.approx(encoder_m, abs=0.05)
    assert parameters(model) / 1e6 == pytest.approx(total_m, abs=0.05)


@pytest.mark.parametrize(
    "name, width, level_channels, encoder_m, total_m",
    [("dinov2_s", 64, (48, 96, 192, 384), 22.06, 24.8), ("dinov2_b", 128, (96, 192, 384, 768), 86.58, 97.5)],
)
def test_dpt_has_the_published_size(
    sketch: None, name: str, width: int, level_channels: tuple[int, ...], encoder_m: float, total_m: float
):
    model = dpt(name, 21, width=width, level_channels=level_channels)
    assert model.decode(model.features(torch.empty(1, 3, 518, 518))).shape == (1, width, 296, 296)
    # The published network also counts one residual unit that it never uses.
    unused = parameters(model.decoder.skip[0])
    assert parameters(model.encoder) / 1e6 == pytest.approx(encoder_m, abs=0.005)
    assert (parameters(model) + unused) / 1e6 == pytest.approx(total_m, abs=0.05)


def test_other_input_channels():
    for name in ("resnet18", "mit_b0"):
        encoder = build_encoder(name, in_channels=4).eval()
        assert encoder(torch.randn(1, 4, 64, 64))[-1].shape == (1, encoder.channels[-1], 2, 2)


def test_frozen_encoder_stays_as_it_is():
    model = deeplabv3plus("resnet18", 5, width=16, low_level_width=8, freeze_encoder=True).train()
    assert model.training and model.decoder.training
    assert not any(m.training for m in model.encoder.modules())
    before = {k: v.clone() for k, v in model.encoder.state_dict().items()}
    model(torch.randn(2, 3, 64, 64)).sum().backward()
    assert all(torch.equal(before[k], v) for k, v in model.encoder.state_dict().items())
    assert all(p.grad is None and not p.requires_grad for p in model.encoder.parameters())
    assert all(p.grad is not None for p in model.decoder.parameters())


@pytest.mark.parametrize(
    "name, arguments, message",
    [
        ("reznet50", {}, "model.encoder 'reznet50': did you mean 'resnet50'"),
        ("mit_b9", {}, "did you mean 'mit_b"),
        ("resnet50.a1_in1", {}, "did you mean 'resnet50.a1_in1k'"),
        ("resnet18", {"output_stride": 4}, "output_stride=4"),
        ("mit_b0", {"output_stride": 16}, "has stride 32 and takes no output_stride; set model.output_stride=32"),
        ("mobilenetv3_small_050", {"output_stride": 16}, "set model.output_stride=32, use it with segformer"),
        ("hiera_tiny_224", {}, "only accepts images of one size"),
        ("dinov2_s", {"output_stride": 16}, "use it with dpt"),
    ],
)
def test_wrong_encoders_are_refused(name: str, arguments: dict[str, int], message: str):
    with pytest.raises(InputError) as caught:
        build_encoder(name, **arguments)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_dpt_needs_maps_of_one_size():
    with pytest.raises(InputError, match="did you mean 'dinov2_s'"):
        dpt("dinov2_xs", 5, width=4, level_channels=(4, 4, 4, 4))
    with pytest.raises(InputError, match="maps of one size"):
        dpt("resnet18", 5, width=4, level_channels=(4, 4, 4, 4))


def test_tiny_compiles_as_one_graph():
    torch._dynamo.reset()
    model = tiny(5).eval()
    x = torch.randn(1, 3, 33, 47)
    with torch.no_grad():
        compiled = torch.compile(model, backend="eager", fullgraph=True)
        torch.testing.assert_close(compiled(x), model(x))


@pytest.mark.parametrize("size", [(1, 1), (1, 40), (7, 28), (28, 29), (33, 2)])
def test_segformer_takes_any_size_from_one_pixel(size: tuple[int, int]):
    model = segformer("mit_b0", 5, width=8)
    maps = model.features(torch.randn(2, 3, *size))
    assert [tuple(m.shape[-2:]) for m in maps] == [(-(-size[0] // r), -(-size[1] // r)) for r in (4, 8, 16, 32)]
    logits = model(torch.randn(2, 3, *size))
    assert logits.shape == (2, 5, *size) and logits.isfinite().all()
    logits.sum().backward()


@torch.no_grad()
def test_small_images_are_padded_at_the_far_border():
    encoder = build_encoder("mit_b0").eval()
    x = torch.randn(1, 3, 20, 27)
    padded = encoder(nn.functional.pad(x, (0, 2, 0, 9)))
    for ours, whole in zip(encoder(x), padded, strict=True):
        assert torch.equal(ours, whole[..., : ours.shape[-2], : ours.shape[-1]])
