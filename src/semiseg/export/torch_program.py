"""A ``torch.export`` program, which needs only PyTorch."""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from semiseg.export.formats import Runner

FILE = "model.pt2"
FACTS: dict[str, Any] = {}


def write(program: torch.export.ExportedProgram, facts: Mapping[str, Any], folder: Path) -> None:
    """Write ``model.pt2`` with the facts in its extra file ``semiseg.json``."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about buffers that share memory
        torch.export.save(program, folder / FILE, extra_files={"semiseg.json": json.dumps(facts)})


def open_file(folder: Path) -> Runner:
    """Load the file: returns a function from graph inputs to outputs, run on the CPU."""
    extra = {"semiseg.json": ""}
    program = torch.export.load(folder / FILE, extra_files=extra)
    # Guards on dynamic sizes are valid for the example only: they come from its memory layout.
    module = program.module(check_guards=json.loads(extra["semiseg.json"])["size"] is not None)

    @torch.no_grad()
    def run(images: np.ndarray) -> np.ndarray:
        return np.asarray(module(torch.from_numpy(images)))

    return run
