"""Engines that are installed on request only."""

from __future__ import annotations

import importlib
from typing import Any

from semiseg.errors import InputError


def import_extra(package: str, option: str, extra: str) -> Any:
    """Import a package that an extra of semiseg brings.

    Args:
        package: its name.
        option: what needs it, as it is typed.
        extra: of semiseg.

    Raises:
        InputError: it is not installed.
    """
    try:
        return importlib.import_module(package)
    except ModuleNotFoundError as e:
        raise InputError(f"{option} needs {package}: pip install 'semiseg[{extra}]'") from e
