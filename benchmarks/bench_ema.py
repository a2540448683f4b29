"""The update of a teacher against one fused kernel over the same tensors."""

from __future__ import annotations

from typing import Literal

import torch
from table import Row
from timing import DEVICE, best_of
from torch import Tensor, nn

from semiseg.methods.networks import frozen_copy
from semiseg.models import deeplabv3plus, tiny
from semiseg.ops.ema import Ema, EmaUpdater, TeacherPair


def measure(*, quick: bool) -> list[Row]:
    """The network of UniMatch, with averaged and with copied BatchNorm statistics."""
    student = (tiny(21) if quick else deeplabv3plus("resnet50s", 21)).to(DEVICE)
    rounds = 1 if quick else 40
    return [update(student, "average", rounds), update(student, "copy", rounds)]


def update(student: nn.Module, buffers: Literal["average", "copy"], rounds: int) -> Row:
    """The yardstick averages the parameters, and the buffers where the teacher does; it copies nothing."""
    teacher = frozen_copy(student)
    updater = EmaUpdater(TeacherPair(teacher, student, Ema(decay=lambda done: 0.996, buffers=buffers)))
    targets, sources = (_averaged(network, buffers) for network in (teacher, student))

    @torch.no_grad()
    def bare() -> None:
        torch._foreach_lerp_(targets, sources, 0.004)

    best = best_of({"update": lambda: updater.update(0), "bare": bare}, rounds)
    size = sum(p.numel() for p in student.parameters()) / 1e6
    return Row(
        f"EMA update, {size:.0f} M parameters, buffers: {buffers}",
        best["update"] / best["bare"],
        "torch._foreach_lerp_ on the same lists",
        goal=1.05,
        detail=f"{1e3 * best['update']:.1f} ms",
    )


def _averaged(network: nn.Module, buffers: str) -> list[Tensor]:
    tensors = [p.detach() for p in network.parameters()]
    return tensors + [b for b in network.buffers() if b.is_floating_point() and buffers == "average"]
