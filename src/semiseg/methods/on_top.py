"""A method on top of another one, whose networks, teacher, views and evaluation it shares."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Self

from torch import nn

from semiseg.data.batch import SemiBatch
from semiseg.errors import InputError
from semiseg.methods.base import Parts, SemiMethod, StepOutput
from semiseg.models.segmentor import Segmentor
from semiseg.ops.ema import TeacherPair
from semiseg.ops.pseudo import PseudoLabels


class OnTop(SemiMethod):
    """Takes over the networks of a base method and adds to its loss.

    Args:
        base: makes the base method from the same parts.

    Raises:
        InputError: for a base that labels no unlabeled images, or has more state than a student and a teacher.
    """

    base: SemiMethod

    def __init__(self, parts: Parts, *, base: Callable[[Parts], SemiMethod]) -> None:
        # Not a submodule: the networks that both hold would be in the state a second time.
        object.__setattr__(self, "base", _checked(base(parts)))
        super().__init__(dataclasses.replace(parts, network=lambda: self.base.student))
        self.teacher, self.ema, self.view_spec = self.base.teacher, self.base.ema, self.base.view_spec

    def base_step(self, batch: SemiBatch) -> tuple[StepOutput, PseudoLabels]:
        """One step of the base, at the same place in the run, and the pseudo-labels it learned from."""
        self.base.steps_done, self.base.max_steps = self.steps_done, self.max_steps
        out = self.base.step(batch)
        assert out.pseudo is not None  # as _checked demands
        return out, out.pseudo

    def trained(self) -> list[nn.Module]:
        """What the base trains."""
        return self.base.trained()

    def evaluated(self) -> dict[str, Segmentor]:
        """As the base."""
        return self.base.evaluated()

    def teacher_pairs(self) -> list[TeacherPair]:
        """As the base: no average is kept of what is added."""
        return self.base.teacher_pairs()

    def train(self, mode: bool = True) -> Self:
        """Train mode for everything but what the base keeps in another."""
        super().train(mode)
        self.base.train(mode)
        return self


def _checked(base: SemiMethod) -> SemiMethod:
    more = {name.split(".")[0] for name in base.state_dict()} - {"student", "teacher", "metrics"}
    if more or base.view_spec is None or not hasattr(base, "conf_threshold"):
        raise InputError(
            f"method.base={type(base).__name__}: allowed are methods that label unlabeled images and whose only state "
            "is a student and a teacher: fixmatch, fixmatch_ema, mean_teacher, unimatch"
        )
    return base
