"""Methods that train several times in one run: each stage from new weights, with a schedule of its own."""

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

    What lies between two stages is done ahead of the first step of the next one, so that a run that is resumed there
    does it too.

    Args:
        ends: shares of the run at which all stages but the last end, ascending.
    """

    def __init__(self, parts: Parts, *, ends: Sequence[float]) -> None:
        super().__init__(parts)
        if list(ends) != sorted(ends):
            raise ValueError(f"stages={list(ends)}: expected ascending shares of the run")
        self.new_network = parts.network
        self.ends = (*(round(share * parts.max_steps) for share in ends), parts.max_steps)

    @abstractmethod
    def work(self) -> list[tuple[int, Callable[[], None]]]:
        """What to do between steps, in order: each with the number of the step, from 0, ahead of which it is done."""

    def stage_at(self, step: int) -> int:
        """Number of the stage, from 0."""
        return sum(step >= end for end in self.ends[:-1])

    def on_train_start(self) -> None:
        """Nothing is done yet ahead of the first step, be it the first of the run or the first after a resume."""
        self._ready_for = self.global_step - 1

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        """Do what is due ahead of this optimizer step."""
        for due, do in self.work():
            if self._ready_for < due <= self.global_step:
                do()
        self._ready_for = self.global_step

    def start_anew(self) -> None:
        """New weights, equal on all processes, and an optimizer without a memory."""
        with torch.random.fork_rng(devices=[]):  # the step after it draws what it would draw without
            copy_to_all(self.new_network(), self.student)
        for optimizer in self.trainer.optimizers:
            optimizer.state.clear()

    def configure_optimizers(self) -> Any:
        """The schedule of a whole run, in each stage."""
        found = super().configure_optimizers()
        scheduler = found["lr_scheduler"]["scheduler"]
        scheduler.lr_lambdas = [partial(self.factor_at, whole) for whole in scheduler.lr_lambdas]
        return found

    def factor_at(self, whole: Callable[[int], float], step: int) -> float:
        """The factor at a step, of a schedule that is run through once in every stage."""
        stage = self.stage_at(step)
        start, end = (0, *self.ends)[stage], self.ends[stage]
        return whole(round((step - start) * self.max_steps / max(end - start, 1)))


@torch.no_grad()
def copy_to_all(source: nn.Module, target: nn.Module) -> None:
    """Overwrite a network with another one, on all processes as rank 0 has it: BatchNorm statistics may differ."""
    target.load_state_dict(source.state_dict())
    for tensor in target.state_dict().values():
        from_first_rank(tensor)
