"""Activation checkpointing: less memory, the same numbers."""

from __future__ import annotations

import copy

import pytest
import torch

from semiseg.methods.networks import in_mode
from semiseg.models.checkpointing import checkpoint_activations
from semiseg.models.factory import deeplabv3plus, segformer, tiny
from semiseg.models.segmentor import Segmentor
from semiseg.training.peak_memory import peak_memory

NETWORKS = {
    "tiny": lambda: tiny(3, width=4),
    "resnet": lambda: deeplabv3plus("resnet18", 3, width=16, low_level_width=8, dropout=0.1),
    "mit": lambda: segformer("mit_b0", 3, width=16),  # drop path
    "efficientnet": lambda: deeplabv3plus("tf_efficientnet_lite0", 3, width=16, low_level_width=8),
    "convnext": lambda: deeplabv3plus("convnext_atto", 3, width=16, low_level_width=8),
}


def step(network: Segmentor, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """Loss, gradients and buffers of two forward passes and one backward pass, and what the generator gives next."""
    torch.manual_seed(1)
    loss = network(x).square().mean() + network(x.flip(-1)).square().mean()
    loss.backward()
    gradients = [p.grad for p in network.parameters() if p.grad is not None]
    return (loss.detach(), *gradients, *network.buffers(), torch.rand(3))


@pytest.mark.parametrize("name", NETWORKS)
def test_loss_gradients_statistics_and_random_numbers_are_those_of_the_plain_network(name: str) -> None:
    torch.manual_seed(0)
    plain = NETWORKS[name]().train()
    saving = copy.deepcopy(plain)
    names = list(saving.state_dict())
    assert checkpoint_activations(saving.encoder) >= 3
    x = torch.randn(2, 3, 48, 48)
    for a, b in zip(step(plain, x), step(saving, x), strict=True):
        assert torch.equal(a, b)
    assert list(saving.state_dict()) == names
    assert all(m.training for m in saving.modules())


def test_a_pass_in_another_mode_is_recomputed_in_that_mode() -> None:
    torch.manual_seed(0)
    plain = tiny(3, width=4).train()
    saving = copy.deepcopy(plain)
    checkpoint_activations(saving.encoder)
    x = torch.randn(2, 3, 32, 32)
    for network in (plain, saving):
        with in_mode(network, train=False):
            loss = network(x).square().mean()
        loss.backward()  # the network is in train mode again
    for a, b in zip(plain.parameters(), saving.parameters(), strict=True):
        assert a.grad is not None and torch.equal(a.grad, b.grad)
    assert all(torch.equal(a, b) for a, b in zip(plain.buffers(), saving.buffers(), strict=True))


def test_it_takes_less_memory() -> None:
    torch.manual_seed(0)
    plain = deeplabv3plus("resnet18", 3, width=16, low_level_width=8).encoder.train()
    saving = copy.deepcopy(plain)
    checkpoint_activations(saving)
    x = torch.randn(2, 3, 192, 192)
    gradients = sum(p.nbytes for p in plain.parameters())
    memory = [peak_memory(lambda e=e: sum(f.sum() for f in e(x)).backward()) - gradients for e in (plain, saving)]
    assert memory[1] < 0.85 * memory[0]


def test_no_gradient_no_second_run() -> None:
    network = tiny(3, width=4).eval()
    x = torch.randn(1, 3, 32, 32)
    with torch.no_grad():
        before = network(x)
        checkpoint_activations(network.encoder)
        assert torch.equal(network(x), before)
