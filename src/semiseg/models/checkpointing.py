"""Activation checkpointing: the blocks of an encoder keep their input alone and run once more in the backward pass."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint


def checkpoint_activations(encoder: nn.Module) -> int:
    """Make every block of an encoder recompute its activations, in place; names in the state dict stay as they are.

    Loss, gradients, BatchNorm statistics and the state of the random generators are those of the plain encoder: the
    second run of a block has the mode, the dropout masks and the autocast of the first, and leaves statistics alone.

    Returns:
        How many blocks it has.

    Source: Chen et al. 2016, Training Deep Nets with Sublinear Memory Cost.
    """
    blocks = _blocks(encoder)
    for block in blocks:
        block.forward = functools.partial(_run, block, block.forward)
    return len(blocks)


def _blocks(module: nn.Module) -> list[nn.Module]:
    """The innermost stacks of modules that have parts of their own."""
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
    """Around the first run, and around the second."""
    return nullcontext(), _once_more(block, [module.training for module in block.modules()])


@contextmanager
def _once_more(block: nn.Module, modes: list[bool]) -> Iterator[None]:
    """The modes of the first run; BatchNorm counts the batch in copies of its statistics, which are thrown away."""
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
