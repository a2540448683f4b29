"""Values that a type does not allow, made from the type alone: independent of the validator, which asks pydantic."""

from __future__ import annotations

import types
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from annotated_types import Ge, Gt, Le, Lt
from pydantic.fields import FieldInfo

NUMBERS = (int, float)


def bad_values(hint: Any) -> Iterator[tuple[str, Any]]:
    """(what is wrong, value) for a type: wrong type, null, NaN, infinity, below, above, unknown choice."""
    atoms = list(_atoms(hint))
    kinds = {kind for kind, _ in atoms}
    choices = [c for kind, args in atoms if kind is Literal for c in args]
    text = bool(kinds & {str, Path})
    if not text:
        yield ("choice" if choices else "type"), "no_such_value"
        if not kinds & {float}:
            yield "nan", float("nan")
            yield "infinity", float("inf")
        else:
            yield "nan", float("nan")
            yield "infinity", float("inf")
            yield "minus infinity", float("-inf")
    if not kinds & {dict, Mapping}:
        yield "mapping", {"no": 1}
    if type(None) not in kinds:
        yield "null", None
    if kinds & set(NUMBERS) and bool not in kinds and not choices:
        yield "flag", True
    if int in kinds and float not in kinds and not text:
        yield "fraction", 1.5
    if bool in kinds and not kinds & set(NUMBERS):
        yield "number", 7
    yield from _beyond(atoms)
    lists = [(kind, args) for kind, args in atoms if kind in (tuple, list, Sequence)]
    if not lists:
        yield "list", [[1], {"no": 1}]
    for kind, args in lists:
        fixed = kind is tuple and Ellipsis not in args
        if fixed:
            yield "shorter list", [_good(a) for a in args[:-1]]
            yield "longer list", [*(_good(a) for a in args), _good(args[-1])]
        for wrong, value in bad_values(args[0]):
            yield f"first of list: {wrong}", [value, *(_good(a) for a in args[1:] if a is not Ellipsis)]


def has_range(hint: Any) -> bool:
    """Whether every number in a type has a bound."""
    for kind, args in _atoms(hint):
        if kind in NUMBERS and not args:
            return False
        if kind in (tuple, list, Sequence) and not all(has_range(a) for a in args if a is not Ellipsis):
            return False
    return True


def _atoms(hint: Any, bounds: tuple[Any, ...] = ()) -> Iterator[tuple[Any, Any]]:
    """(class, bounds or arguments) of every alternative of a type."""
    origin, args = get_origin(hint), get_args(hint)
    if origin is Annotated:
        yield from _atoms(
            args[0], tuple(b for a in args[1:] for b in (a.metadata if isinstance(a, FieldInfo) else [a]))
        )
    elif origin in (Union, types.UnionType):
        for arg in args:
            yield from _atoms(arg, bounds)
    else:
        yield origin or hint, args or bounds


def _beyond(atoms: Sequence[tuple[Any, Any]]) -> Iterator[tuple[str, Any]]:
    """One below the lowest and one above the highest number that any alternative allows."""
    low: list[float] = []
    high: list[float] = []
    for kind, bounds in atoms:
        if kind not in NUMBERS:
            continue
        lows = [b.ge - 1 if isinstance(b, Ge) else b.gt for b in bounds if isinstance(b, (Ge, Gt))]
        highs = [b.le + 1 if isinstance(b, Le) else b.lt for b in bounds if isinstance(b, (Le, Lt))]
        low += lows or [float("-inf")]
        high += highs or [float("inf")]
    if low and min(low) > float("-inf"):
        yield "below", min(low)
    if high and max(high) < float("inf"):
        yield "above", max(high)


def _good(hint: Any) -> Any:
    """Some value that a type allows."""
    for kind, args in _atoms(hint):
        if kind is Literal:
            return args[0]
        if kind in NUMBERS:
            low = next((b.ge if isinstance(b, Ge) else b.gt for b in args if isinstance(b, (Ge, Gt))), 0)
            high = next((b.le if isinstance(b, Le) else b.lt for b in args if isinstance(b, (Le, Lt))), low + 2)
            return kind((low + high) / 2)
        if kind is str:
            return "text"
        if kind is bool:
            return True
    return None
