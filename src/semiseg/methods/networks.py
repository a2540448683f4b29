"""Frozen copies of a network, and passes in another mode than its current one."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeVar

import torch
from torch import Tensor, nn

N = TypeVar("N", bound=nn.Module)


def frozen_copy(network: N) -> N:
    """A copy in eval mode without gradients: a teacher before its first update."""
    return copy.deepcopy(network).requires_grad_(False).eval()


@contextmanager
def in_mode(*networks: nn.Module, train: bool) -> Iterator[None]:
    """Context with train or eval mode; afterwards every module is back in its previous mode."""
    modes = [(module, module.training) for network in networks for module in network.modules()]
    for network in networks:
        network.train(train)
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode


@torch.no_grad()
def eval_logits(network: nn.Module, images: Tensor) -> Tensor:
    """Logits (B, C, H, W) in eval mode, without gradients and BatchNorm updates."""
    with in_mode(network, train=False):
        logits: Tensor = network(images)
        return logits
