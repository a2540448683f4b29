"""A ``torch.export`` program: PyTorch without semiseg."""

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
    """Write ``model.pt2``; the facts are its extra file ``semiseg.json``."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of buffers that share their memory
        torch.export.save(program, folder / FILE, extra_files={"semiseg.json": json.dumps(facts)})


def open_file(folder: Path) -> Runner:
    """Images as the graph takes them -> what it gives, on the CPU."""
    extra = {"semiseg.json": ""}
    program = torch.export.load(folder / FILE, extra_files=extra)
    # Guards on free sizes hold for the example only: they come from the layout of its memory.
    module = program.module(check_guards=json.loads(extra["semiseg.json"])["size"] is not None)

    @torch.no_grad()
    def run(images: np.ndarray) -> np.ndarray:
        return np.asarray(module(torch.from_numpy(images)))

    return run
