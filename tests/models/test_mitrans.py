from __future__ import annotations

import math

import torch
from torch import nn

from semiseg.models.mitrans import MITrans, MITransDecoder, NonLocal
from semiseg.models.tiny import PyramidDecoder


@torch.no_grad()
def test_non_local_starts_as_the_identity():
    x = torch.randn(2, 6, 4, 5)
    assert torch.equal(NonLocal(6)(x), x)


@torch.no_grad()
def test_non_local_against_a_loop_over_positions():
    block = NonLocal(6)
    for layer in (block.theta, block.phi, block.g, block.out):
        nn.init.normal_(layer.weight, std=0.5)
        nn.init.normal_(layer.bias, std=0.5)
    x = torch.randn(2, 6, 3, 4)

    def at(layer: nn.Conv2d, pixel: torch.Tensor) -> torch.Tensor:
        return layer.weight[:, :, 0, 0] @ pixel + layer.bias

    expected = torch.empty_like(x)
    for b in range(2):
        pixels = x[b].flatten(1).T
        for i, pixel in enumerate(pixels):
            scores = [float(at(block.theta, pixel) @ at(block.phi, other)) / math.sqrt(3) for other in pixels]
            weights = [math.exp(s) for s in scores]
            y = sum(w * at(block.g, other) for w, other in zip(weights, pixels)) / sum(weights)
            expected[b, :, i // 4, i % 4] = pixel + at(block.out, y)
    torch.testing.assert_close(block(x), expected, rtol=1e-5, atol=1e-5)


@torch.no_grad()
def test_mitrans_joins_the_input_with_what_was_transferred():
    block = MITrans(6, 4).eval()
    x = torch.randn(2, 6, 5, 3)
    transferred = block.second(block.first(x))  # the non-local block is the identity
    expected = block.restore(block.fuse(torch.cat([x, transferred], dim=1)))
    assert torch.equal(block(x), expected) and expected.shape == x.shape
    nn.init.normal_(block.non_local.out.weight)
    assert not torch.allclose(block(x), expected)


def test_mitrans_is_never_wider_than_its_map():
    assert MITrans(6).first[0].out_channels == 6 and MITrans(1024).first[0].out_channels == 512


def test_every_parameter_gets_a_gradient():
    block = MITrans(6, 4)
    block(torch.randn(2, 6, 5, 3)).square().mean().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in block.parameters())


@torch.no_grad()
def test_mitrans_decoder_changes_the_coarsest_map_only():
    decoder = PyramidDecoder((3, 4, 8), width=5).eval()
    guided = MITransDecoder(decoder, 8).eval()
    maps = [torch.randn(1, 3, 9, 7), torch.randn(1, 4, 5, 4), torch.randn(1, 8, 3, 2)]
    assert torch.equal(guided(maps), decoder([maps[0], maps[1], guided.transfer(maps[2])]))
    assert not torch.allclose(guided(maps), decoder(maps))
