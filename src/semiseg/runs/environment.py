"""The software behind a result: package versions, state of the checkout. Does not import torch."""

from __future__ import annotations

import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from typing_extensions import TypedDict  # pydantic needs it before Python 3.12

import semiseg

PACKAGES = ("torch", "torchvision", "pytorch-lightning", "torchmetrics", "timm", "albumentations", "hydra-core")


class GitState(TypedDict):
    """Commit of the code and whether there are uncommitted changes; None if it does not run from a checkout."""

    commit: str | None
    dirty: bool | None


def package_versions() -> dict[str, str]:
    """Versions of Python, semiseg and the packages that affect results."""
    versions = {"python": platform.python_version(), "semiseg": semiseg.__version__}
    for package in PACKAGES:
        try:
            versions[package.replace("-", "_")] = version(package)
        except PackageNotFoundError:
            continue
    return versions


def git_state() -> GitState:
    """State of the checkout that contains this file."""
    here = Path(__file__).resolve()

    def git(*args: str) -> str | None:
        try:
            done = subprocess.run(
                ["git", *args], cwd=here.parent, capture_output=True, text=True, timeout=10, check=True
            )
        except (OSError, subprocess.SubprocessError):
            return None
        return done.stdout.strip()

    # An installed package may be inside another repository: only a checkout of semiseg counts.
    if git("ls-files", "--error-unmatch", here.name) is None:
        return {"commit": None, "dirty": None}
    return {
        "commit": git("rev-parse", "HEAD"),
        "dirty": bool(git("status", "--porcelain", "--untracked-files=no")),
    }
