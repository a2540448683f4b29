"""Code shared by the export formats."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from typing import Literal, TypeAlias

import numpy as np

from semiseg.errors import InputError

Format: TypeAlias = Literal["onnx", "torch", "openvino"]

Runner: TypeAlias = Callable[[np.ndarray], np.ndarray]
"""Applies an exported file: (B, 3, H, W) -> (B, C, H, W) logits, or (B, H, W) classes."""


def needs(*packages: str, extra: str) -> None:
    """Check that packages are installed.

    Raises:
        InputError: names the extra that installs them.
    """
    missing = [name for name in packages if importlib.util.find_spec(name) is None]
    if missing:
        raise InputError(f"{' and '.join(missing)} not installed; install with pip install 'semiseg[{extra}]'")
