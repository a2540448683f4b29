"""Encoders and decoders compile as one graph each."""

from __future__ import annotations

import copy

import pytest
import torch
import torch._dynamo.testing

from semiseg.models.factory import deeplabv3plus, dpt, segformer, tiny

NETWORKS = {
    "tiny": (lambda: tiny(3, width=4), 48),
    "deeplabv3plus": (lambda: deeplabv3plus("resnet18", 3, width=16, low_level_width=8), 65),
    "segformer": (lambda: segformer("mit_b0", 3, width=16), 64),
    "dpt": (lambda: dpt("dinov2_s", 3, width=16, level_channels=(8, 8, 8, 8)), 28),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_encoder_and_decoder_are_one_graph_each_and_compute_the_same(name: str) -> None:
    torch.manual_seed(0)
    make, side = NETWORKS[name]
    plain = make().eval()
    compiled = copy.deepcopy(plain)
    torch._dynamo.reset()
    for part in (compiled.encoder, compiled.decoder):
        part.compile(backend="eager", fullgraph=True)  # raises at a graph break
    x = torch.randn(2, 3, side, side)
    assert torch.equal(plain(x), compiled(x))
    plain(x).sum().backward()
    compiled(x).sum().backward()
    for a, b in zip(plain.parameters(), compiled.parameters(), strict=True):
        assert (a.grad is None) == (b.grad is None) and (a.grad is None or torch.equal(a.grad, b.grad))


def test_a_second_step_does_not_compile_again() -> None:
    torch._dynamo.reset()
    network = tiny(3, width=4).train()
    counter = torch._dynamo.testing.CompileCounter()
    for part in (network.encoder, network.decoder):
        part.compile(backend=counter, fullgraph=True)
    x = torch.randn(2, 3, 32, 32)
    for _ in range(3):
        network(x).sum().backward()
    assert counter.frame_count == 2
