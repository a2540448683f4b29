"""A method on top of another one that shares its networks, teacher, views and evaluation."""

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
    """Uses the networks of a base method and adds to its loss.

    Args:
        base: builds the base method from the same parts.

    Raises:
        InputError: for a base without pseudo-labels, or with more state than a student and a teacher.
    """

    base: SemiMethod

    def __init__(self, parts: Parts, *, base: Callable[[Parts], SemiMethod]) -> None:
        # Not a submodule, or the shared networks would be in the state dict twice.
        object.__setattr__(self, "base", _checked(base(parts)))
        super().__init__(dataclasses.replace(parts, network=lambda: self.base.student))
        self.teacher, self.ema, self.view_spec = self.base.teacher, self.base.ema, self.base.view_spec

    def base_step(self, batch: SemiBatch) -> tuple[StepOutput, PseudoLabels]:
        """One step of the base, at the same point in the run, and the pseudo-labels it used."""
        self.base.steps_done, self.base.max_steps = self.steps_done, self.max_steps
        out = self.base.step(batch)
        assert out.pseudo is not None  # ensured by _checked
        return out, out.pseudo

    def trained(self) -> list[nn.Module]:
        """The modules that the base trains."""
        return self.base.trained()

    def evaluated(self) -> dict[str, Segmentor]:
        """Same as the base."""
        return self.base.evaluated()

    def teacher_pairs(self) -> list[TeacherPair]:
        """Same as the base; added parts have no EMA."""
        return self.base.teacher_pairs()

    def train(self, mode: bool = True) -> Self:
        """Train mode for everything except what the base keeps in eval mode."""
        super().train(mode)
        self.base.train(mode)
        return self


def _checked(base: SemiMethod) -> SemiMethod:
    more = {name.split(".")[0] for name in base.state_dict()} - {"student", "teacher", "metrics"}
    if more or base.view_spec is None or not hasattr(base, "conf_threshold"):
        raise InputError(
            f"method.base={type(base).__name__}: allowed are methods with pseudo-labels whose only state is a student "
            "and a teacher: fixmatch, fixmatch_ema, mean_teacher, unimatch"
        )
    return base
