"""Constructor arguments: the signature declares types and ranges, pydantic checks them, the messages are ours.

``Annotated[float, Field(ge=0, le=1)]`` and ``Literal["a", "b"]`` are only interpreted here: by ``checked``, when a
constructor is called, and for ``semiseg.config``, before anything is built. Numbers must be finite unless the field
has ``allow_inf_nan=True``.

Names of arguments also tell which values are secret: passwords and keys are kept out of all records.
"""

from __future__ import annotations

import functools
import inspect
import re
import types
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin

from annotated_types import Ge, Gt, Le, Lt
from pydantic import ConfigDict, TypeAdapter, ValidationError
from pydantic.fields import FieldInfo

from semiseg.errors import InputError, suggest

C = TypeVar("C", bound=Callable[..., Any])

SCALARS = {
    bool: "true or false",
    int: "whole numbers",
    float: "numbers",
    str: "text",
    type(None): "null",
    Path: "a path",
}
STRICT = ConfigDict(strict=True, allow_inf_nan=False, arbitrary_types_allowed=True)


def checked(target: C) -> C:
    """Decorator for a class or function that checks the arguments against the signature at every call.

    Raises:
        InputError: at the call, for a value of the wrong type or out of range.
    """
    if isinstance(target, type):
        target.__init__ = checked(target.__init__)  # type: ignore[misc]
        return target
    signature = inspect.signature(target)

    @functools.wraps(target)
    def call(*args: Any, **kwargs: Any) -> Any:
        bound = signature.bind(*args, **kwargs)
        check_arguments(target, bound.arguments)
        return target(*args, **kwargs)

    return call  # type: ignore[return-value]


def check_arguments(target: Callable[..., Any], given: Mapping[str, Any], prefix: str = "") -> None:
    """Check values against the annotations of ``target``; arguments that are not plain values are skipped.

    Args:
        target: a class or a function.
        given: argument name -> value.
        prefix: prefix of the name in the message: ``method.`` gives ``method.conf_threshold=1.5: ...``.

    Raises:
        InputError: naming the first invalid argument, its value and what is allowed.
    """
    for name, hint in plain_hints(target).items():
        if name in given:
            check_value(f"{prefix}{name}", given[name], hint)


def check_value(key: str, value: Any, hint: Any) -> None:
    """Check one value against a type.

    Raises:
        InputError: naming the key, the value and what is allowed.
    """
    try:
        _adapter(hint).validate_python(_as_tuples(value, hint))
    except ValidationError as e:
        raise InputError(f"{key}={shown(value)}: {describe(hint, value)}") from e


@functools.cache
def plain_hints(target: Callable[..., Any]) -> dict[str, Any]:
    """The annotations of the parameters that take plain values, in signature order."""
    function: Any = getattr(target, "__init__") if isinstance(target, type) else target  # noqa: B009
    hints = typing.get_type_hints(inspect.unwrap(function), include_extras=True)
    return {name: hints[name] for name in inspect.signature(target).parameters if is_plain(hints.get(name))}


def is_plain(hint: Any) -> bool:
    """Whether a type consists of numbers, strings, choices and containers of these."""
    origin = get_origin(hint)
    if origin is Annotated:
        return is_plain(get_args(hint)[0])
    if origin is Literal or hint in SCALARS:
        return True
    if origin in (Union, types.UnionType):
        return all(is_plain(a) for a in get_args(hint))
    if origin in (list, tuple, Sequence, dict, Mapping):
        return all(a is Ellipsis or is_plain(a) for a in get_args(hint))
    return False


def describe(hint: Any, value: Any = None) -> str:
    """What a type allows, as the end of an error message; for choices, with the nearest match of ``value``."""
    choices = [str(c) for c in _choices(hint)]
    if choices and not _beside_choices(hint):
        return suggest(str(value), choices)
    return f"allowed are {_words(hint)}"


def _words(hint: Any) -> str:
    origin, args = get_origin(hint), get_args(hint)
    if origin is Annotated:
        return _words(args[0]) + _range(args[1:])
    if origin is Literal:
        return ", ".join(map(shown, args))
    if origin in (Union, types.UnionType):
        return " or ".join(_words(a) for a in args)
    if origin is tuple and Ellipsis not in args:
        same = len(set(args)) == 1
        return f"lists of {len(args)} {_words(args[0])}" if same else "lists of " + ", ".join(_words(a) for a in args)
    if origin in (list, tuple, Sequence):
        return f"lists of {_words(args[0])}"
    if origin in (dict, Mapping):
        return f"mappings from {_words(args[0])} to {_words(args[1])}"
    return SCALARS.get(hint, getattr(hint, "__name__", str(hint)))


def _range(metadata: Iterable[Any]) -> str:
    low = high = ""
    for bound in _bounds(metadata):
        match bound:
            case Ge(ge):
                low = f"from {shown(ge)}"
            case Gt(gt):
                low = f"above {shown(gt)}"
            case Le(le):
                high = f"to {shown(le)}" if low.startswith("from") else f"up to {shown(le)}"
            case Lt(lt):
                high = f"below {shown(lt)}"
    joined = (
        " ".join(filter(None, (low, high))) if not (low and high.startswith(("up", "below"))) else f"{low} and {high}"
    )
    return f" {joined}" if joined else ""


def _bounds(metadata: Iterable[Any]) -> list[Any]:
    found: list[Any] = []
    for item in metadata:
        found += item.metadata if isinstance(item, FieldInfo) else [item]
    return sorted(found, key=lambda b: not isinstance(b, (Ge, Gt)))


def _choices(hint: Any) -> list[Any]:
    origin, args = get_origin(hint), get_args(hint)
    if origin is Literal:
        return list(args)
    if origin in (Union, types.UnionType, Annotated):
        return [c for a in args for c in _choices(a)]
    return []


def _beside_choices(hint: Any) -> bool:
    """Whether values other than the choices are allowed as well."""
    origin, args = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        return any(get_origin(a) is not Literal for a in args)
    return False


def _as_tuples(value: Any, hint: Any) -> Any:
    """Convert lists, as YAML has them, to tuples where the hint asks for tuples."""
    origin = get_origin(hint)
    if origin is Annotated:
        return _as_tuples(value, get_args(hint)[0])
    if origin in (Union, types.UnionType):
        tuples = [a for a in get_args(hint) if get_origin(a) is tuple]
        return tuple(value) if tuples and isinstance(value, list) else value
    if origin in (list, Sequence) and isinstance(value, list):
        return [_as_tuples(v, get_args(hint)[0]) for v in value]
    if origin is tuple and isinstance(value, list):
        inner = [a for a in get_args(hint) if a is not Ellipsis]
        return tuple(_as_tuples(v, inner[min(i, len(inner) - 1)]) for i, v in enumerate(value))
    return value


@functools.cache
def _adapter(hint: Any) -> TypeAdapter[Any]:
    return TypeAdapter(hint, config=STRICT)


def shown(value: Any) -> str:
    """A value as it is written on the command line, on one line and truncated."""
    if value is None:
        return "null"
    text = str(value).lower() if isinstance(value, bool) else str(value)
    if not text.isprintable():
        text = repr(text)
    return text if len(text) <= 80 else f"{text[:77]}..."


MASK = "***"

_WORD = r"(?:api_?)?(?:key|token|password|passwd|secret|credentials?)(?:_id)?"

NAME = re.compile(rf"(?i)(^|[._-]){_WORD}$")
"""Pattern for the end of a secret's dotted key, in whole words: ``logger.wandb.api_key``, ``hub_token``; not
``keys_per_class``, ``token_count``."""

LOGIN = re.compile(r"(?<=://)([^/@\s:]+):[^/@\s]+(?=@)")
"""User and password in a URL: ``postgresql://me:secret@host/db``."""


def mask_overrides(overrides: Sequence[str]) -> list[str]:
    """Overrides as typed, with secret values replaced by ``***``."""
    masked = []
    for override in overrides:
        key, equals, value = override.partition("=")
        masked.append(f"{key}={MASK}" if equals and value and NAME.search(key) else LOGIN.sub(rf"\1:{MASK}", override))
    return masked


def masked_keys(overrides: Sequence[str]) -> list[str]:
    """The keys of recorded overrides whose values were left out, wholly or in part."""
    return [o.partition("=")[0].lstrip("+~") for o in overrides if MASK in o]


def mask_config(node: Any, key: str = "") -> Any:
    """A configuration as plain containers, with secret values replaced by ``***``."""
    if isinstance(node, Mapping):
        return {k: mask_config(v, str(k)) for k, v in node.items()}
    if isinstance(node, list):
        return [mask_config(v, key) for v in node]
    if not isinstance(node, str):
        return node
    return MASK if node and NAME.search(key) else LOGIN.sub(rf"\1:{MASK}", node)


_TYPED = re.compile(
    rf"""(?ix) (?<![\w.-]) ([+~]{{0,2}} (?:[\w-]+[./])* (?:[\w-]*[_-])? {_WORD} ) (=|:\s)
        ( "(?:[^"\\]|\\.)*" | '(?:[^'\\]|\\.)*' | [^\s'"]+ )"""
)


def mask_text(text: str) -> str:
    """A command line or message in which apparent values of secret keys are replaced by ``***``."""
    return LOGIN.sub(rf"\1:{MASK}", _TYPED.sub(rf"\1\2{MASK}", text))
