from __future__ import annotations

import copy

import pytest
import pytorch_lightning as pl
import torch
from torch import nn
from torch.utils.data import DataLoader

from semiseg.ops.ema import Ema, TeacherPair
from semiseg.ops.schedules import ConstantDecay, WarmupDecay
from semiseg.training.callbacks.ema_teacher import EmaTeacher


class TwoPairs(pl.LightningModule):
    """Two students with a teacher each; records what the teachers were at every forward pass."""

    def __init__(self, when: str) -> None:
        super().__init__()
        self.students = nn.ModuleList([nn.Linear(1, 1, bias=False) for _ in range(2)])
        self.teachers = copy.deepcopy(self.students).requires_grad_(False)
        self.emas = [Ema(ConstantDecay(0.5), when=when), Ema(WarmupDecay(0.75), when=when)]
        self.history: list[tuple[list[float], list[float]]] = []

    def teacher_pairs(self) -> list[TeacherPair]:
        return [TeacherPair(t, s, e) for t, s, e in zip(self.teachers, self.students, self.emas)]

    def weights(self) -> tuple[list[float], list[float]]:
        return [s.weight.item() for s in self.students], [t.weight.item() for t in self.teachers]

    def training_step(self, batch, batch_idx):
        self.history.append(self.weights())
        return sum(s(batch).mean() for s in self.students)

    def configure_optimizers(self):
        return torch.optim.SGD(self.students.parameters(), lr=0.1)


def fit(when: str, accumulate: int, batches: int = 8) -> TwoPairs:
    module = TwoPairs(when)
    trainer = pl.Trainer(
        max_epochs=1,
        accumulate_grad_batches=accumulate,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[EmaTeacher()],
    )
    trainer.fit(module, DataLoader(torch.arange(1.0, 1.0 + batches).view(-1, 1)))
    return module


@pytest.mark.parametrize("accumulate,updates", [(1, 8), (2, 4), (3, 3)])
@pytest.mark.parametrize("when", ["after_step", "before_step"])
def test_every_pair_moves_once_per_optimizer_step(when: str, accumulate: int, updates: int) -> None:
    module = fit(when, accumulate)
    history = [*module.history, module.weights()]
    # Where the students moved, an optimizer step happened.
    steps = [i for i in range(1, len(history)) if history[i][0] != history[i - 1][0]]
    assert len(steps) == updates
    teachers = copy.deepcopy(history[0][1]) if when == "after_step" else None
    decays = [lambda i: 0.5, lambda i: min(1 - 1 / (i + 1), 0.75)]
    if when == "after_step":
        for n, at in enumerate(steps):
            for k in range(2):
                d = decays[k](n)
                teachers[k] = d * teachers[k] + (1 - d) * history[at][0][k]
            assert history[at][1] == pytest.approx(teachers, rel=1e-5)
    else:
        # Ahead of a forward pass the teacher moves towards the student as it is then: first at the very first step.
        first_passes = [0, *[i for i in steps if i < len(module.history)]]
        for n, at in enumerate(first_passes):
            before = history[at - 1][1] if at else None
            for k in range(2):
                d = decays[k](n)
                if before is not None:
                    assert history[at][1][k] == pytest.approx(d * before[k] + (1 - d) * history[at][0][k], rel=1e-5)
        assert history[-1][1] == pytest.approx(module.history[-1][1])  # nothing after the last step
