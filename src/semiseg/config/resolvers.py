"""The name of a run folder, derived from the settings, so that the same command finds its folder again."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from semiseg.runs.source import source_digest

IN_PATH = ("data", "protocol", "method", "model", "seed", "study")
"""Choices that are spelled out in the folder names."""

NO_EFFECT = (
    "overwrite",
    "logger",
    "paths",
    "loader",
    "data.root",
    "data.mask_cache",
    "data.sbd",
    "diagnostics",
    "hydra",
    "sweep",
    "trial",
    "trainer.log_every",
    "trainer.save_every",
    "trainer.accelerator",
    "trainer.on_nonfinite",
    "trainer.checkpoint_activations",
)
"""Keys (including all below them) that do not change what a run computes."""


DATA_ROOTS = "SEMISEG_DATA"
"""Environment variable: a folder with one subfolder per data set, used if data.root is not set."""


def data_root(name: str) -> Path | None:
    """``$SEMISEG_DATA/<name>``, whether it exists or not; None without the variable."""
    return Path(os.environ[DATA_ROOTS], name) if os.environ.get(DATA_ROOTS) else None


def _data_root(name: str) -> str | None:
    root = data_root(name)
    return str(root) if root else None


def without_effect(key: str) -> bool:
    """Whether a dotted key has no effect on the outcome of a run."""
    return any(key == k or key.startswith((k + ".", k + "@")) for k in NO_EFFECT)


def run_suffix(overrides: Sequence[str], init: str | None = None) -> str:
    """``_<hash>`` of what the folder names do not spell out, and ``_fold<k>``; empty if there is nothing to add.

    Args:
        overrides: overrides of the run.
        init: the model it starts from, identified by its weights, not its location.
    """
    rest = [] if init is None else [f"init={source_digest(init)}"]
    fold = ""
    for override in overrides:
        key, _, value = override.lstrip("+~").partition("=")
        if key == "protocol.fold" and value != "null":
            fold = f"_fold{value}"
        elif key not in (*IN_PATH, "init") and not without_effect(key):
            rest.append(override.lstrip("+"))
    digest = "_" + hashlib.sha256("\n".join(sorted(rest)).encode()).hexdigest()[:8] if rest else ""
    return digest + fold


def _run_name(study: str, protocol: str, seed: int, *, _root_: Any) -> str:
    from semiseg.config.filed import filed_before_training  # it needs the resolvers

    hydra = _root_.hydra
    choices = hydra.runtime.choices
    suffix = run_suffix(list(hydra.overrides.task), _root_.init)
    protocol = filed_before_training(_root_)
    return f"{study}/{protocol}/{choices.method}/{choices.model}/seed_{seed}{suffix}"


def register_resolvers() -> None:
    """Register ``${run_name:...}`` and ``${data_root:...}`` with OmegaConf."""
    OmegaConf.register_new_resolver("data_root", _data_root, replace=True)
    OmegaConf.register_new_resolver("run_name", _run_name, replace=True)
