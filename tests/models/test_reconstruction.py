"""The head that rebuilds pixels, part by part; and batch norm that keeps its statistics."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from semiseg.models.layers import conv_bn_relu, kept_statistics
from semiseg.models.reconstruction import MaskToken, ReconstructionDecoder

SIZE = (30, 41)  # not a multiple of the stride


@pytest.fixture
def decoder() -> ReconstructionDecoder:
    torch.manual_seed(0)
    decoder = ReconstructionDecoder(6, 8, width=16)
    nn.init.normal_(decoder.head.bias)  # as after some training
    return decoder


def test_parameters_and_initial_values() -> None:
    decoder = ReconstructionDecoder(256, 16)
    assert sum(p.numel() for p in decoder.parameters()) == pytest.approx(0.72e6, rel=0.01)
    assert decoder.body[0].weight.std().item() == pytest.approx((2 / (9 * 128)) ** 0.5, rel=0.02)
    assert not decoder.head.bias.any() and not MaskToken()().any()


def test_a_reconstruction_sees_its_own_cells_only(decoder: ReconstructionDecoder) -> None:
    context = torch.randn(2, 6, 4, 6, requires_grad=True)
    gates = torch.rand(2, 3, 4, 6) < 0.5
    rebuilt = decoder(context, gates, SIZE)
    assert rebuilt.shape == (2, 3, 3, *SIZE)
    for i in range(2):
        for j in range(3):
            (grad,) = torch.autograd.grad(rebuilt[i, j].square().sum(), context, retain_graph=True)
            seen = grad.abs().sum(dim=1) > 0
            assert torch.equal(seen[i], gates[i, j]) and not seen[1 - i].any()


def test_open_gates_are_no_gates(decoder: ReconstructionDecoder) -> None:
    context = torch.randn(2, 6, 4, 6)
    plain = decoder.head(decoder.body(decoder.reduce(context)))
    plain = nn.functional.pixel_shuffle(plain, 8)[..., : SIZE[0], : SIZE[1]]
    got = decoder(context, torch.ones(2, 1, 4, 6, dtype=torch.bool), SIZE)[:, 0]
    torch.testing.assert_close(got, plain, rtol=1e-5, atol=1e-6)


def test_a_gate_is_the_map_times_the_gate(decoder: ReconstructionDecoder) -> None:
    context, gates = torch.randn(1, 6, 4, 6), torch.rand(1, 2, 4, 6) < 0.5
    opened = torch.ones(1, 1, 4, 6, dtype=torch.bool)
    for j in range(2):
        expected = decoder(context * gates[:, j, None], opened, SIZE)[:, 0]
        torch.testing.assert_close(decoder(context, gates, SIZE)[:, j], expected, rtol=1e-5, atol=1e-6)


def test_closed_gates_give_every_parameter_a_finite_gradient(decoder: ReconstructionDecoder) -> None:
    decoder(torch.randn(1, 6, 4, 6), torch.zeros(1, 2, 4, 6, dtype=torch.bool), SIZE).mean().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in decoder.parameters())


@pytest.mark.parametrize("momentum", [0.1, None])
def test_kept_statistics(momentum: float | None) -> None:
    network = conv_bn_relu(3, 4)
    norm = network[1]
    norm.momentum = momentum
    x = 3 + 5 * torch.randn(4, 3, 6, 6)
    network(x)
    before = {k: v.clone() for k, v in norm.named_buffers() if "running" in k}
    with pytest.raises(RuntimeError, match="stop"), kept_statistics(network):
        own = network(2 * x - 1)
        raise RuntimeError("stop")
    assert all(torch.equal(v, before[k]) for k, v in norm.named_buffers() if "running" in k)
    assert norm.momentum == momentum
    torch.testing.assert_close(own, network(2 * x - 1))  # statistics of the batch, as in train mode
    assert not torch.equal(norm.running_mean, before["running_mean"])
