"""ONNX, with PyTorch's exporter."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from semiseg.export.formats import Runner, needs

FILE = "model.onnx"
OPSET = 18
FACTS: dict[str, Any] = {"opset": OPSET}


def write(program: torch.export.ExportedProgram, facts: Mapping[str, Any], folder: Path) -> None:
    """Write ``model.onnx`` with the facts in its metadata, under ``semiseg``.

    Raises:
        InputError: the packages are not installed.
    """
    needs("onnx", "onnxscript", extra="export")
    with _quiet():
        exported = torch.onnx.export(
            program,
            input_names=["images"],
            output_names=["masks" if facts["argmax"] else "logits"],
            opset_version=OPSET,
            external_data=False,
            dynamo=True,
            verbose=False,
        )
    assert exported is not None
    exported.model.metadata_props["semiseg"] = json.dumps(dict(facts))
    exported.save(str(folder / FILE))


def open_file(folder: Path) -> Runner:
    """Load the file: returns a function from graph inputs to outputs, run by ONNX Runtime on the CPU."""
    needs("onnxruntime", extra="export")
    import onnxruntime

    session = onnxruntime.InferenceSession(str(folder / FILE), providers=["CPUExecutionProvider"])

    def run(images: np.ndarray) -> np.ndarray:
        (found,) = session.run(None, {"images": images})
        return np.asarray(found)

    return run


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silence the exporter's progress messages and the warnings that it causes itself."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
