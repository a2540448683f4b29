"""Dilated depthwise convolutions equal ``nn.Conv2d``, with every size, kernel and dilation."""

import copy

import pytest
import torch
from torch import nn

from semiseg.models.dilated import DilatedDepthwiseConv2d, is_dilated_depthwise, replace_dilated_depthwise
from semiseg.models.encoders import build_encoder


def conv(kernel: int = 3, rate: int = 2, **arguments) -> nn.Conv2d:
    padding = rate * (kernel // 2)
    return nn.Conv2d(6, 6, kernel, padding=padding, dilation=rate, **{"groups": 6, **arguments}).double()


@pytest.mark.parametrize("size", [(8, 8), (7, 9), (1, 1), (3, 10), (2, 5)])
@pytest.mark.parametrize("kernel, rate", [(3, 2), (5, 2), (3, 4), (5, 3), (7, 2)])
@pytest.mark.parametrize("bias", [True, False])
def test_output_and_gradients_equal_the_plain_convolution(size, kernel, rate, bias):
    plain = conv(kernel, rate, bias=bias)
    fast = DilatedDepthwiseConv2d(copy.deepcopy(plain))
    x = torch.randn(3, 6, *size, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    inputs = [x.clone().requires_grad_() for _ in range(2)]
    outputs = [layer(value) for layer, value in zip((plain, fast), inputs)]
    torch.testing.assert_close(outputs[1], outputs[0])
    for output in outputs:
        (output * torch.linspace(-1, 1, output.numel()).view_as(output)).sum().backward()
    torch.testing.assert_close(inputs[1].grad, inputs[0].grad)
    torch.testing.assert_close(fast.weight.grad, plain.weight.grad)
    if bias:
        torch.testing.assert_close(fast.bias.grad, plain.bias.grad)


@pytest.mark.parametrize(
    "other",
    [
        conv(rate=1),
        conv(groups=1),
        conv(groups=3),
        conv(stride=2),
        conv(padding_mode="reflect"),
        nn.Conv2d(6, 6, 3, padding=1, dilation=2, groups=6),
        nn.Conv2d(6, 6, (3, 1), padding=(2, 0), dilation=2, groups=6),
        nn.ReLU(),
    ],
)
def test_other_layers_stay(other):
    assert is_dilated_depthwise(conv())
    assert not is_dilated_depthwise(other)


def test_parameters_names_and_random_numbers_stay():
    network = nn.Sequential(conv(), nn.Sequential(conv(5)))
    before = {name: value.data_ptr() for name, value in network.named_parameters()}
    state = torch.get_rng_state()
    replace_dilated_depthwise(network)
    assert torch.equal(torch.get_rng_state(), state)
    assert {name: value.data_ptr() for name, value in network.named_parameters()} == before
    assert all(isinstance(m, DilatedDepthwiseConv2d) for m in network.modules() if isinstance(m, nn.Conv2d))


def test_in_evaluation_it_is_one_convolution():
    """A traced or exported network shows the plain layer."""
    fast = DilatedDepthwiseConv2d(conv()).eval()
    graph = torch.export.export(fast, (torch.zeros(1, 6, 8, 8, dtype=torch.float64),)).graph
    calls = [node.target for node in graph.nodes if node.op == "call_function"]
    assert calls == [torch.ops.aten.conv2d.default]


def test_efficientnet_with_stride_16_uses_it():
    encoder = build_encoder("tf_efficientnet_lite0", output_stride=16)
    assert sum(isinstance(module, DilatedDepthwiseConv2d) for module in encoder.modules()) == 4
    assert not any(isinstance(m, DilatedDepthwiseConv2d) for m in build_encoder("tf_efficientnet_lite0").modules())
