"""Methods that always have a teacher."""

from __future__ import annotations

import torch
from torch import Tensor

from semiseg.methods.base import Parts, SemiMethod
from semiseg.models.segmentor import Segmentor
from semiseg.ops.ema import Ema


class TeacherMethod(SemiMethod):
    """A method that always has a teacher."""

    teacher: Segmentor
    ema: Ema

    def __init__(self, parts: Parts, *, ema: Ema) -> None:
        super().__init__(parts, ema=ema)

    @torch.no_grad()
    def teacher_logits(self, images: Tensor) -> Tensor:
        """Logits (B, C, H, W) of the teacher in its current mode, without gradients."""
        logits: Tensor = self.teacher(images)
        return logits
