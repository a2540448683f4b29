"""The name of a run folder: by content, so that the same command finds its own folder again."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

from omegaconf import OmegaConf

IN_PATH = ("data", "protocol", "method", "model", "seed", "study")
"""Choices that the folder names spell out."""

NO_EFFECT = (
    "overwrite",
    "logger",
    "paths",
    "loader",
    "data.root",
    "diagnostics",
    "hydra",
    "trainer.log_every",
    "trainer.save_every",
    "trainer.accelerator",
    "trainer.on_nonfinite",
)
"""Keys (with all below them) that do not change what a run computes."""


def without_effect(key: str) -> bool:
    """Whether a dotted key leaves the outcome of a run as it is."""
    return any(key == k or key.startswith((k + ".", k + "@")) for k in NO_EFFECT)


def run_suffix(overrides: Sequence[str]) -> str:
    """``_<hash>`` of the overrides that the folder names do not spell out; empty when there is none."""
    rest = []
    for override in overrides:
        key = override.lstrip("+~").split("=", 1)[0]
        if key not in IN_PATH and not without_effect(key):
            rest.append(override.lstrip("+"))
    return "_" + hashlib.sha256("\n".join(sorted(rest)).encode()).hexdigest()[:8] if rest else ""


def _run_name(study: str, protocol: str, seed: int, *, _root_: Any) -> str:
    hydra = _root_.hydra
    choices = hydra.runtime.choices
    suffix = run_suffix(list(hydra.overrides.task))
    return f"{study}/{protocol}/{choices.method}/{choices.model}/seed_{seed}{suffix}"


def register_resolvers() -> None:
    """Make ``${run_name:...}`` known to OmegaConf."""
    OmegaConf.register_new_resolver("run_name", _run_name, replace=True)
