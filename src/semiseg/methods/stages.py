"""Methods that train several times in one run: each stage starts from new weights, with its own schedule."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import nn

from semiseg.methods.base import Parts, SemiMethod
from semiseg.ops.distributed import from_first_rank


class StagedMethod(SemiMethod):
    """A method whose run has stages.

    Work between two stages is done before the first step of the next one, so that a run resumed there does it too.

    Args:
        ends: fractions of the run at which all stages except the last end, ascending.
    """

    def __init__(self, parts: Parts, *, ends: Sequence[float]) -> None:
        super().__init__(parts)
        if list(ends) != sorted(ends):
            raise ValueError(f"stages={list(ends)}: expected ascending fractions of the run")
        self.new_network = parts.network
        self.ends = (*(round(share * parts.max_steps) for share in ends), parts.max_steps)

    @abstractmethod
    def work(self) -> list[tuple[int, Callable[[], None]]]:
        """Work between steps, in order: (index of the step, from 0, before which it is done, function)."""

    def stage_at(self, step: int) -> int:
        """Index of the stage, from 0."""
        return sum(step >= end for end in self.ends[:-1])

    def on_train_start(self) -> None:
        """Mark the work before the next step as not done, at the start of a run and after a resume."""
        self._ready_for = self.global_step - 1

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        """Do the work that is due before this optimizer step."""
        for due, do in self.work():
            if self._ready_for < due <= self.global_step:
                do()
        self._ready_for = self.global_step

    def start_anew(self) -> None:
        """New weights, equal on all processes, and a fresh optimizer state."""
        with torch.random.fork_rng(devices=[]):  # does not affect the random numbers of later steps
            copy_to_all(self.new_network(), self.student)
        for optimizer in self.trainer.optimizers:
            optimizer.state.clear()

    def configure_optimizers(self) -> Any:
        """Apply the schedule of a whole run in each stage."""
        found = super().configure_optimizers()
        scheduler = found["lr_scheduler"]["scheduler"]
        scheduler.lr_lambdas = [partial(self.factor_at, whole) for whole in scheduler.lr_lambdas]
        return found

    def factor_at(self, whole: Callable[[int], float], step: int) -> float:
        """The factor at a step, for a schedule that is repeated in every stage."""
        stage = self.stage_at(step)
        start, end = (0, *self.ends)[stage], self.ends[stage]
        return whole(round((step - start) * self.max_steps / max(end - start, 1)))


@torch.no_grad()
def copy_to_all(source: nn.Module, target: nn.Module) -> None:
    """Copy rank 0's ``source`` into ``target`` on all processes, as BatchNorm statistics may differ."""
    target.load_state_dict(source.state_dict())
    for tensor in target.state_dict().values():
        from_first_rank(tensor)
