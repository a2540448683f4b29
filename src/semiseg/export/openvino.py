"""OpenVINO, converted from the ONNX file with OpenVINO's converter."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from semiseg.export import onnx
from semiseg.export.formats import Runner, needs

FILE = "model.xml"
FACTS: dict[str, Any] = {}


def write(program: torch.export.ExportedProgram, facts: Mapping[str, Any], folder: Path) -> None:
    """Write ``model.xml`` and ``model.bin``, float32, with the facts in the runtime information, under ``semiseg``.

    Raises:
        InputError: the packages are not installed.
    """
    needs("openvino", extra="openvino")
    import openvino

    with tempfile.TemporaryDirectory() as between:
        onnx.write(program, facts, Path(between))
        model = openvino.convert_model(Path(between) / onnx.FILE)
    model.set_rt_info(json.dumps(facts), ["semiseg"])
    openvino.save_model(model, folder / FILE, compress_to_fp16=False)


def open_file(folder: Path) -> Runner:
    """Load the file: returns a function from graph inputs to outputs, run on the CPU."""
    needs("openvino", extra="openvino")
    import openvino

    # The hint keeps float32: otherwise a CPU may choose bfloat16.
    model = openvino.Core().compile_model(folder / FILE, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})

    def run(images: np.ndarray) -> np.ndarray:
        return np.array(model(images)[0])

    return run
