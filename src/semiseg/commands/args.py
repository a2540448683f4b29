"""The arguments of a command: typed ``key=value`` pairs with their help text.

A command declares a dataclass; each field is an ``option``. As with constructor arguments (``semiseg.arguments``), the
annotation defines the allowed values; the help text and spelling suggestions are derived from the same fields.
"""

from __future__ import annotations

import dataclasses
import difflib
import inspect
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args, get_type_hints

from semiseg.arguments import check_value
from semiseg.errors import InputError, suggest

T = TypeVar("T")
WORDS = {"true": True, "false": False, "null": None}


def option(help: str, default: Any = None, *, value: str = "", key: str = "") -> Any:
    """A field of a command's arguments.

    Args:
        help: one line.
        default: the value if the key is not given.
        value: placeholder for the value in the help: ``DIR``; otherwise the default is shown.
        key: the key as typed, if it is not a Python identifier: ``data.root``.
    """
    return dataclasses.field(default=default, metadata={"help": help, "value": value, "key": key})


@dataclasses.dataclass(frozen=True, kw_only=True)
class ModelArguments:
    """What the commands share that use a trained model: which one."""

    run: Path | None = option("a run folder", value="DIR")
    checkpoint: Path | None = option("or one checkpoint", value="FILE")
    which: Literal["best", "last"] = option("which checkpoint of the run folder: best or last", "best")

    def file(self) -> Path:
        """The checkpoint.

        Raises:
            InputError: neither or both of run and checkpoint are given, or there is no such file.
        """
        from semiseg.training.evaluate import find_checkpoint

        return find_checkpoint(self.run, self.checkpoint, self.which)


def parse(
    argv: Sequence[str], arguments: type[T], *, known: Callable[[], Sequence[str]] | None = None
) -> tuple[T, list[str]] | None:
    """Read a command's own arguments.

    Args:
        argv: the words after the command.
        arguments: its dataclass of options; ``usage`` and its docstring start the help text.
        known: the names of configuration groups and keys, if the command also takes such overrides.

    Returns:
        The arguments, and the remaining words: overrides, and words without ``=``. None if help was requested and has
        been printed.

    Raises:
        InputError: an unknown key, or a value that is not allowed.
    """
    if any(a in ("-h", "--help") for a in argv):
        print(help_text(arguments), end="")
        return None
    hints, names = get_type_hints(arguments, include_extras=True), _names(arguments)
    given: dict[str, Any] = {}
    rest: list[str] = []
    for arg in argv:
        key, equals, text = arg.partition("=")
        if equals and key in names:
            given[names[key]] = _read(key, text, hints[names[key]])
        elif equals and _mistaken(key, list(names), known):
            raise InputError(f"unknown argument '{arg}': {suggest(key, names)}")
        else:
            rest.append(arg)
    return arguments(**given), rest


def help_text(arguments: type[Any]) -> str:
    """Usage and docstring of the arguments, and a line for each."""
    rows = []
    for key, name in _names(arguments).items():
        field = arguments.__dataclass_fields__[name]
        value = field.metadata["value"] or str(field.default).lower()
        rows.append((f"{key}={value}", field.metadata["help"]))
    width = max((len(name) for name, _ in rows), default=0)
    lines = [f"  {name.ljust(width)}   {text}" for name, text in rows]
    return "\n".join([arguments.usage, "", inspect.getdoc(arguments) or "", "", *lines]) + "\n"


def with_source(argv: Sequence[str]) -> list[str]:
    """The words with ``source=`` put before a folder or file that is given without it; its name may contain ``=``."""
    return [f"source={a}" if a[:1] != "-" and ("=" not in a or Path(a).exists()) else a for a in argv]


def no_more(rest: Sequence[str], arguments: type[Any]) -> None:
    """Reject words that a command does not take.

    Raises:
        InputError: there is such a word.
    """
    if rest:
        name = rest[0].split("=")[0]
        raise InputError(f"unknown argument '{rest[0]}': {suggest(name, _names(arguments))}")


def folders(rest: Sequence[str], command: str, example: str, flags: Sequence[str] = ("--help",)) -> list[Path]:
    """The words that a command takes as folders of runs.

    Raises:
        InputError: there is none, or one looks like a flag.
    """
    if not rest:
        raise InputError(f"semiseg {command} needs folders of runs, for example: {example}")
    for word in rest:
        if word.startswith("-"):
            raise InputError(f"unknown argument '{word}': {suggest(word, flags)}")
    return [Path(word) for word in rest]


def _names(arguments: type[Any]) -> dict[str, str]:
    """Key as typed -> name of the field."""
    return {field.metadata["key"] or field.name: field.name for field in dataclasses.fields(arguments)}


def _mistaken(key: str, own: Sequence[str], known: Callable[[], Sequence[str]] | None) -> bool:
    """Whether a key that the command does not declare must be a mistake."""
    if known is None:
        return True
    close = difflib.get_close_matches(key, own, n=1, cutoff=0.7)
    return bool(close) and "." not in key and key not in known()


def _read(key: str, text: str, hint: Any) -> Any:
    """The value, parsed as the first type in the annotation that the text fits."""
    value: Any = text
    for kind in _kinds(hint):
        if kind is Path:
            value = Path(text).expanduser()
        elif kind in (bool, type(None)):
            value = WORDS.get(text.lower(), text)
        elif kind in (int, float):
            try:
                value = kind(text)
            except ValueError:
                continue
        if isinstance(value, kind):
            break
    check_value(key, value, hint)
    return value


def _kinds(hint: Any) -> list[type]:
    """The plain types in an annotation, ``None`` first: ``null`` is not a string."""
    found = [k for a in get_args(hint) for k in _kinds(a)] if get_args(hint) else [hint]
    kinds = [k if isinstance(k, type) else type(k) for k in found]
    return sorted(dict.fromkeys(kinds), key=lambda k: k is not type(None))
