"""A run that breaks off at a step and goes on, beside one that was never broken."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from semiseg.config import compose_config
from semiseg.methods.base import SemiMethod
from semiseg.runs.checkpoint import load_checkpoint
from semiseg.training.fit import train


def run(folder: Path, overrides: Sequence[str]) -> dict[str, Any]:
    """One run in this process."""
    return dict(train(compose_config(list(overrides)), folder, list(overrides)))


def broken_run(folder: Path, overrides: Sequence[str], at: int) -> dict[str, Any]:
    """The same, broken off ahead of step ``at``, then given again."""
    step = SemiMethod.training_step

    def breaks(self: SemiMethod, batch: Any, batch_idx: int) -> Any:
        if self.global_step == at:
            raise ZeroDivisionError("broken off")
        return step(self, batch, batch_idx)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(SemiMethod, "training_step", breaks)
        with pytest.raises(ZeroDivisionError):
            run(folder, overrides)
    return run(folder, overrides)


def assert_equal_weights(a: Path, b: Path) -> None:
    """The last checkpoints of two runs hold the same numbers."""
    one, other = (load_checkpoint(folder / "checkpoints/last.ckpt")["state_dict"] for folder in (a, b))
    assert one.keys() == other.keys() and all(torch.equal(tensor, other[name]) for name, tensor in one.items())
