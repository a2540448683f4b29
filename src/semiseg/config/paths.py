"""Location of the configuration tree."""

from __future__ import annotations

from pathlib import Path


def conf_dir() -> Path:
    """The configuration tree: inside the installed package, or at the top of the checkout."""
    package = Path(__file__).resolve().parents[1]
    inside = package / "conf"
    return inside if inside.is_dir() else package.parents[1] / "conf"
