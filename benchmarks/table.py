"""What a benchmark reports, as a table for people and as JSON for machines."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal


@dataclass(frozen=True)
class Row:
    """One measured number; less is better.

    Args:
        name: what was measured.
        value: a ratio to ``against``, or seconds.
        against: the yardstick, measured in the same run.
        goal: the largest value we are content with, if there is a goal.
        detail: the absolute number behind a ratio.
    """

    name: str
    value: float
    against: str
    goal: float | None = None
    unit: Literal["x", "s"] = "x"
    detail: str = ""

    @property
    def verdict(self) -> str:
        """Whether the goal is met, in a word; empty where there is none."""
        return "" if self.goal is None else "met" if self.value <= self.goal else "missed"


def machine() -> dict[str, Any]:
    """Where the numbers come from, the load by others included."""
    import torch
    from timing import DEVICE

    return {
        "cpu_count": os.cpu_count(),
        "device": torch.cuda.get_device_name() if DEVICE.type == "cuda" else platform.machine() + " CPU",
        "threads": torch.get_num_threads(),
        "load_average": round(os.getloadavg()[0], 2),
        "python": platform.python_version(),
        "torch": torch.__version__,
    }


def write_json(path: Path, rows: Sequence[Row]) -> None:
    """The rows of one benchmark with the facts of the machine."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"machine": machine(), "rows": [asdict(r) for r in rows]}, indent=2) + "\n")


def markdown(rows: Sequence[Row]) -> str:
    """A Markdown table with aligned columns."""
    cells = [
        ("benchmark", "measured", "goal", "", "against", "in numbers"),
        ("---", "---:", "---:", "---", "---", "---"),
    ]
    for r in rows:
        goal = "" if r.goal is None else f"≤ {r.goal:g} {r.unit}"
        cells.append((r.name, f"{r.value:.2f} {r.unit}", goal, r.verdict, r.against, r.detail))
    widths = [max(map(len, column)) for column in zip(*cells)]
    return "\n".join("| " + " | ".join(cell.ljust(n) for cell, n in zip(line, widths)) + " |" for line in cells)
