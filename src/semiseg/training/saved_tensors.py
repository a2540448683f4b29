"""Estimates the memory of a recipe without its GPU: counts the tensors that autograd saves, with hooks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from semiseg.data.batch import SemiBatch
from semiseg.methods.base import SemiMethod
from semiseg.training.peak_memory import peak_memory


@dataclass(frozen=True)
class StepMemory:
    """Bytes of one optimizer step.

    Attributes:
        networks: parameters and buffers of all networks, teachers included.
        gradients: gradients of the trained parameters.
        optimizer: optimizer states.
        activations: peak bytes of everything else.
    """

    networks: int
    gradients: int
    optimizer: int
    activations: int

    @property
    def total(self) -> int:
        """Total bytes."""
        return self.networks + self.gradients + self.optimizer + self.activations

    def at(self, factor: float) -> StepMemory:
        """Memory for ``factor`` times as many images or pixels."""
        return StepMemory(self.networks, self.gradients, self.optimizer, round(self.activations * factor))


@dataclass(frozen=True)
class Saved:
    """Bytes of the storages that a graph holds, each counted once: the total, and the largest."""

    total: int
    largest: int

    @property
    def peak(self) -> int:
        """Peak bytes of the backward pass: it starts with all saved tensors and the gradient of a full-size map."""
        return self.total + self.largest


def count_saved(forward: Callable[[], Tensor], *, without: nn.Module | None = None) -> Saved:
    """Storages that the graph of a scalar holds before its backward pass; works on any device, including ``meta``.

    Args:
        forward: computes the scalar.
        without: a module whose parameters and buffers are not counted.
    """
    owned = set() if without is None else {_key(x) for x in (*without.parameters(), *without.buffers())}
    # The tensors are kept alive, so that no storage reuses the address of a freed one.
    storages: dict[int, Tensor] = {}

    def pack(x: Tensor) -> Tensor:
        if _key(x) not in owned:
            storages.setdefault(_key(x), x.detach())
        return x

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
        loss = forward()
    assert loss.requires_grad
    sizes = [x.untyped_storage().nbytes() for x in storages.values()]
    return Saved(sum(sizes), max(sizes, default=0))


def step_memory(method: SemiMethod, batch: SemiBatch) -> StepMemory:
    """The memory of one step, estimated from a forward pass on any device.

    Temporary tensors count if the forward pass needs more memory for them than the saved tensors take (U2PL's sort).
    Gradients are added to the activations, although they are allocated while activations are freed: an upper bound.
    """
    saved = count_saved(lambda: method.step(batch).loss, without=method)
    forward = peak_memory(lambda: method.step(batch).loss, batch.labeled.device)
    trained = sum(p.nbytes for network in method.trained() for p in network.parameters() if p.requires_grad)
    networks = sum(x.nbytes for x in (*method.parameters(), *method.buffers()))
    return StepMemory(networks, trained, trained * _states(method), max(saved.peak, forward))


def _states(method: SemiMethod) -> int:
    """Numbers that the optimizer stores per parameter."""
    if method.optim is None:
        return 1
    configured = method.configure_optimizers()
    optimizer = configured["optimizer"] if isinstance(configured, dict) else configured
    return 2 if isinstance(optimizer, (torch.optim.Adam, torch.optim.AdamW)) else 1


def _key(x: Tensor) -> int:
    """The identity of a tensor's storage."""
    return int(x.untyped_storage()._cdata)
