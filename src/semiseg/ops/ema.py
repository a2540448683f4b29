"""Exponential moving average of a network's weights, in a few fused kernels."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from semiseg.arguments import checked
from semiseg.ops.schedules import WarmupDecay


@checked
@dataclass(frozen=True)
class Ema:
    """How a teacher follows its student.

    Args:
        decay: function of the number of updates done so far; see ``semiseg.ops.schedules``.
        buffers: treatment of floating-point buffers such as BatchNorm statistics. ``average``: like the parameters
            (UniMatch V2, AugSeg); ``copy``: copied from the student; ``keep``: left unchanged, for a teacher in train
            mode that collects its own (U2PL). Integer buffers are copied unless ``keep``, as averaging would truncate
            them.
        when: ``after_step``: after the optimizer step; ``before_step``: before the forward pass (MKD, TorchSemiSeg).
    """

    decay: Callable[[int], float] = WarmupDecay()
    buffers: Literal["average", "copy", "keep"] = "average"
    when: Literal["after_step", "before_step"] = "after_step"


@dataclass
class TeacherPair:
    """A teacher, the student it follows, and the EMA settings."""

    teacher: nn.Module
    student: nn.Module
    ema: Ema


class EmaUpdater:
    """Updates one teacher from its student. The tensor lists are collected once.

    Raises:
        ValueError: if the two networks do not have the same parameters and buffers.
    """

    def __init__(self, pair: TeacherPair) -> None:
        self.ema = pair.ema
        teacher, student = pair.teacher.state_dict(keep_vars=True), pair.student.state_dict(keep_vars=True)
        if teacher.keys() != student.keys():
            odd = sorted(teacher.keys() ^ student.keys())
            raise ValueError(f"teacher and student differ in {len(odd)} tensors, first: {odd[0]}")
        buffers = {name for name, _ in pair.teacher.named_buffers()}
        average: list[tuple[Tensor, Tensor]] = []
        copy: list[tuple[Tensor, Tensor]] = []
        for name, target in teacher.items():
            source = student[name]
            if name in buffers and self.ema.buffers == "keep":
                continue
            blend = target.is_floating_point() and (name not in buffers or self.ema.buffers == "average")
            (average if blend else copy).append((target.detach(), source.detach()))
        self._average, self._copy = average, copy

    @torch.no_grad()
    def update(self, done: int) -> None:
        """Teacher = decay * teacher + (1 - decay) * student, with the decay for ``done`` previous updates."""
        if self._average:
            targets, sources = zip(*self._average)
            torch._foreach_lerp_(list(targets), list(sources), 1.0 - self.ema.decay(done))
        if self._copy:
            targets, sources = zip(*self._copy)
            torch._foreach_copy_(list(targets), list(sources))
