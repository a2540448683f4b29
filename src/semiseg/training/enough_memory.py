"""Rejects sizes that the device has no memory for before the first step, by counting what autograd would store."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.func import functional_call
from torch.nn import functional as F

from semiseg.config.settings import Settings
from semiseg.errors import InputError
from semiseg.methods.base import SemiMethod
from semiseg.models.segmentor import Segmentor
from semiseg.training.memory import total_memory
from semiseg.training.step_memory import without_numbers

MOST = 50_000
"""Bytes per image pixel, more than any of our networks stores: what fits by this bound needs no count."""

COUNTED = 2
"""Images in the counted forward pass: BatchNorm needs two."""

HALF = 0.5
"""Lower bound on the share of the activations that remains with mixed precision, and with activation checkpointing."""


def check_step_fits(settings: Settings, method: SemiMethod) -> None:
    """Reject a run whose step needs more memory than its device has in total.

    This is a lower bound: the student's activations for each labeled image, and for each unlabeled one if the method
    uses them. Methods with several views or students need more.

    Raises:
        InputError: says what is needed, what is there, and which keys matter.
    """
    images = settings.batch.labeled + (settings.batch.unlabeled if method.view_spec else 0)
    on_cpu = settings.trainer.accelerator == "cpu" or not torch.cuda.is_available()
    device: Literal["cpu", "cuda"] = "cpu" if on_cpu else "cuda"
    there, (height, width) = total_memory(device), settings.crop_size
    if there is None or images * height * width * MOST < there:
        return
    needed = images * bytes_per_image(method, settings.crop_size, settings.channels, device)
    if settings.trainer.precision != "32-true":
        needed *= HALF
    if settings.trainer.checkpoint_activations:
        needed *= HALF
    if needed > there:
        unlabeled = f" batch.unlabeled={settings.batch.unlabeled}" if method.view_spec else ""
        raise InputError(
            f"crop_size={list(settings.crop_size)} with batch.labeled={settings.batch.labeled}{unlabeled}: a step "
            f"needs more than {needed / 2**30:,.0f} GB of memory, this {device.upper().replace('CUDA', 'GPU')} has "
            f"{there / 2**30:.0f}; choose a smaller crop or batch (batch=auto finds the largest)"
        )


def bytes_per_image(
    method: SemiMethod, crop: tuple[int, int], channels: int = 3, device: Literal["cpu", "cuda"] = "cpu"
) -> float:
    """What autograd stores of the student's forward pass and loss for one image; 0 if it cannot be counted.

    Nothing is computed: the pass runs on the ``meta`` device, whose tensors have shapes but no values;
    ``device`` is the one to be estimated.
    """
    network = next((n for n in method.trained() if isinstance(n, Segmentor)), None)
    if network is None:
        return 0.0
    state = {
        name: torch.empty_like(x, device="meta").requires_grad_(x.requires_grad)
        for name, x in (*network.named_parameters(), *network.named_buffers())
    }
    images = torch.empty(COUNTED, channels, *crop, device="meta")
    labels = torch.empty(COUNTED, *crop, dtype=torch.long, device="meta")
    stored: dict[int, Tensor] = {}

    def pack(x: Tensor) -> Tensor:
        stored.setdefault(_key(x), x.detach())  # kept alive, so that no other storage gets its address
        return x

    try:
        with without_numbers(device), torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
            F.cross_entropy(functional_call(network, state, (images,)), labels)
    except (RuntimeError, NotImplementedError):  # the network reads values
        return 0.0
    weights = {_key(x) for x in state.values()}  # these exist anyway
    return sum(x.untyped_storage().nbytes() for key, x in stored.items() if key not in weights) / COUNTED


def _key(x: Tensor) -> int:
    """The identity of a tensor's storage."""
    return int(x.untyped_storage()._cdata)
