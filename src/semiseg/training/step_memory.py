"""Memory of one optimizer step, by what it is for; without computing numbers on PyTorch's ``meta`` device."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, Literal
from unittest.mock import patch

import torch
from torch import Tensor
from torch.nn import functional

from semiseg.data.batch import SemiBatch
from semiseg.methods.base import SemiMethod
from semiseg.ops import info_nce
from semiseg.training.peak_memory import peak_memory


@dataclass(frozen=True)
class StepMemory:
    """Bytes of one optimizer step.

    Attributes:
        networks: parameters and buffers of all networks, teachers included.
        gradients: of the trained parameters.
        optimizer: states of the optimizer.
        activations: peak of everything else.
    """

    networks: int
    gradients: int
    optimizer: int
    activations: int

    @property
    def total(self) -> int:
        """The sum."""
        return self.networks + self.gradients + self.optimizer + self.activations

    def at(self, factor: float) -> StepMemory:
        """With activations scaled by ``factor``, such as for a smaller batch."""
        return StepMemory(self.networks, self.gradients, self.optimizer, round(self.activations * factor))


def step_memory(method: SemiMethod, batch: SemiBatch, target: Literal["cpu", "cuda"] = "cuda") -> StepMemory:
    """Measure forward and backward pass on the device of the batch.

    On ``meta`` every tensor is counted while it is alive, but none has numbers: the crop and batch of a recipe take
    seconds and no memory. Workspaces inside an operation are not counted there, and U2PL counts ``keys_per_class``
    negatives of every class, even if fewer exist.

    Args:
        method: on the device of the batch.
        batch: see above.
        target: on ``meta``, the device whose step is to be estimated: CPU and GPU have different attention kernels and
            chunk sizes.
    """

    def step() -> None:
        method.step(batch).loss.backward()

    device = batch.labeled.device
    with without_numbers(target) if device.type == "meta" else nullcontext():
        step()  # the gradients exist from now on
        peak = peak_memory(step, device)
    trained = sum(p.nbytes for network in method.trained() for p in network.parameters() if p.requires_grad)
    networks = sum(x.nbytes for x in (*method.parameters(), *method.buffers()))
    return StepMemory(networks, trained, trained * _states(method), peak)


@contextmanager
def without_numbers(target: Literal["cpu", "cuda"]) -> Iterator[None]:
    """Let a step run on ``meta`` and keep what it would keep on ``target``.

    ``meta`` lacks autocast and fused attention, which recomputes its weights in the backward pass. Attention with
    dropout is fused on a GPU only: on a CPU the weights, the mask and their product are kept. In deterministic mode,
    PyTorch resizes images on ``meta`` by other operations than on a CPU, which keep more.
    """
    aten, mode = torch.ops.aten, torch.get_deterministic_debug_mode()

    def attend(q: Tensor, k: Tensor, v: Tensor, attn_mask: None = None, dropout_p: float = 0.0, **more: Any) -> Tensor:
        fused = aten._scaled_dot_product_flash_attention_for_cpu
        kernel = aten._scaled_dot_product_attention_math if target == "cpu" and dropout_p > 0 else fused
        found: Tensor = kernel(q, k, v, dropout_p=dropout_p, attn_mask=attn_mask, scale=more.get("scale"))[0]
        return found

    plain = patch.object(torch, "autocast", lambda *args, **kwargs: nullcontext())
    chunks = patch.dict(info_nce.AT_ONCE, meta=info_nce.AT_ONCE[target])
    with plain, chunks, patch.object(functional, "scaled_dot_product_attention", attend):
        torch.set_deterministic_debug_mode("default")
        try:
            yield
        finally:
            torch.set_deterministic_debug_mode(mode)


def _states(method: SemiMethod) -> int:
    """Numbers that the optimizer keeps per parameter."""
    if method.optim is None:
        return 1
    configured = method.configure_optimizers()
    optimizer = configured["optimizer"] if isinstance(configured, dict) else configured
    return 2 if isinstance(optimizer, (torch.optim.Adam, torch.optim.AdamW)) else 1
