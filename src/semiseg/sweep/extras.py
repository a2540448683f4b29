"""Optional engines."""

from __future__ import annotations

import importlib
from typing import Any

from semiseg.errors import InputError


def import_extra(package: str, option: str, extra: str) -> Any:
    """Import a package that is installed by an extra of semiseg.

    Args:
        package: its name.
        option: the option that needs it, as typed.
        extra: the extra of semiseg.

    Raises:
        InputError: it is not installed.
    """
    try:
        return importlib.import_module(package)
    except ModuleNotFoundError as e:
        raise InputError(f"{option} needs {package}: pip install 'semiseg[{extra}]'") from e
