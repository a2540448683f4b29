"""Typed values from parsed JSON. An invalid value raises ValueError with its key; a missing one is None."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

_LARGEST = 2**53  # beyond it, floats cannot represent all integers; no count or time of a run comes close


def text(value: object) -> str | None:
    """A value as text; None for nothing. Characters that are not valid UTF-8 are escaped."""
    if value in (None, ""):
        return None
    return str(value).encode("utf-8", "backslashreplace").decode("utf-8")


def number(raw: Mapping[str, Any], key: str) -> float | None:
    """A number; None if it is missing or not finite (standard JSON has no NaN)."""
    value = raw.get(key)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"'{key}' is not a number")
    if not math.isfinite(value):
        return None
    if abs(value) > _LARGEST:
        raise ValueError(f"'{key}' is out of range")
    return float(value)


def fraction(raw: Mapping[str, Any], key: str) -> float | None:
    """A number in [0, 1], within rounding."""
    value = number(raw, key)
    if value is not None and not -1e-6 <= value <= 1 + 1e-6:
        raise ValueError(f"'{key}' is {value:g}, expected a number from 0 to 1")
    return value


def integer(raw: Mapping[str, Any], key: str) -> int | None:
    """A number truncated to an integer."""
    value = number(raw, key)
    return None if value is None else int(value)


def whole(value: object) -> int | None:
    """The value if it is an integer of plausible size, else None."""
    return value if isinstance(value, int) and not isinstance(value, bool) and abs(value) <= _LARGEST else None


def size(sides: Sequence[int] | None) -> tuple[int, int] | None:
    """Height and width."""
    if sides is None:
        return None
    if len(sides) != 2 or any(whole(side) is None for side in sides):
        raise ValueError(f"'crop_size' is {str(sides)[:60]}, expected [height, width]")
    return sides[0], sides[1]


def lines(value: object) -> tuple[str, ...]:
    """A list of texts; empty for anything else."""
    return tuple(said for item in value if (said := text(item))) if isinstance(value, list) else ()
