"""semiseg: an experiment suite for semi-supervised semantic segmentation.

The Python interface is loaded on first use: importing semiseg is cheap.

    import semiseg

    run = semiseg.train(data="my_photos", method="unimatch", max_steps=2000)
    model = semiseg.load(run)
    mask = model.predict("photo.jpg")
"""

from __future__ import annotations

import importlib
import os
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

# albumentations checks for updates over the network on import; semiseg must not do that without being asked.
os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")

# Let waiting OpenMP threads sleep. Spinning, the default, makes a step several times slower as soon as loader workers
# or other runs compete for the cores. Read once, when torch is imported.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

if TYPE_CHECKING:
    from semiseg import methods as methods
    from semiseg.api.model import Model as Model
    from semiseg.api.model import load as load
    from semiseg.api.runs import Run as Run
    from semiseg.api.runs import evaluate as evaluate
    from semiseg.api.runs import report as report
    from semiseg.api.runs import train as train

_PUBLIC = {"Model": "model", "load": "model"} | dict.fromkeys(("Run", "evaluate", "report", "train"), "runs")

__all__ = ["Model", "Run", "__version__", "evaluate", "load", "methods", "report", "train"]


def __getattr__(name: str) -> Any:
    """Import a name of the interface on first use."""
    if name == "methods":  # a callable package
        return importlib.import_module("semiseg.methods")
    if name not in _PUBLIC:
        raise AttributeError(f"module 'semiseg' has no attribute '{name}'")
    found = getattr(importlib.import_module(f"semiseg.api.{_PUBLIC[name]}"), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
