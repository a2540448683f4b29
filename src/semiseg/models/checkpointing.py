"""Activation checkpointing: encoder blocks store only their input and are recomputed in the backward pass."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint


def checkpoint_activations(encoder: nn.Module) -> int:
    """Make every block of an encoder recompute its activations, in place; state dict names do not change.

    Loss, gradients, BatchNorm statistics and random generator states are the same as without checkpointing: the second
    run of a block uses the mode, dropout masks and autocast of the first, and does not update statistics.

    Returns:
        Number of blocks.

    Source: Chen et al. 2016, Training Deep Nets with Sublinear Memory Cost.
    """
    blocks = _blocks(encoder)
    for block in blocks:
        block.forward = functools.partial(_run, block, block.forward)
    return len(blocks)


def _blocks(module: nn.Module) -> list[nn.Module]:
    """The items of the innermost module lists whose items have children."""
    inner = [block for child in module.children() for block in _blocks(child)]
    if inner or not isinstance(module, (nn.Sequential, nn.ModuleList)):
        return inner
    return [child for child in module if any(child.children())]


def _run(block: nn.Module, forward: Any, *args: Any, **kwargs: Any) -> Any:
    if not torch.is_grad_enabled():
        return forward(*args, **kwargs)
    contexts = functools.partial(_contexts, block)
    return checkpoint(forward, *args, use_reentrant=False, context_fn=contexts, **kwargs)


def _contexts(block: nn.Module) -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
    """Contexts for the first run and for the recomputation."""
    return nullcontext(), _recomputation(block, [module.training for module in block.modules()])


@contextmanager
def _recomputation(block: nn.Module, modes: list[bool]) -> Iterator[None]:
    """Restore the modes of the first run; BatchNorm updates temporary copies of its statistics."""
    modules = list(block.modules())
    before = [module.training for module in modules]
    kept: list[tuple[nn.Module, str, Tensor]] = []
    for module, training in zip(modules, modes, strict=True):
        module.training = training
        if training and hasattr(module, "running_mean"):
            kept += [(module, name, x) for name, x in module.named_buffers(recurse=False)]
    for module, name, x in kept:
        setattr(module, name, x.clone())
    try:
        yield
    finally:
        for module, training in zip(modules, before, strict=True):
            module.training = training
        for module, name, x in kept:
            setattr(module, name, x)
