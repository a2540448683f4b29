"""Peak memory of a piece of work."""

from __future__ import annotations

import torch

from semiseg.training.peak_memory import peak_memory


def test_peak_memory_is_of_the_work_alone() -> None:
    kept: list[torch.Tensor] = []
    first = peak_memory(lambda: kept.append(torch.zeros(1 << 20)))  # 4 MiB that outlive the measurement
    kept.clear()
    assert first == peak_memory(lambda: torch.zeros(1 << 20)) == 4 << 20
