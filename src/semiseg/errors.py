"""Errors a person can act on."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class InputError(ValueError):
    """Wrong input: one line that says what is wrong, where, and what to do. The CLI prints it and exits with code 2."""


class RunFailed(RuntimeError):
    """A run failed, with a one-line reason. The CLI prints it and exits with code 1."""


def suggest(name: str, choices: Iterable[str]) -> str:
    """Say the nearest match of ``name`` among ``choices`` and what is allowed, as the tail of an error line."""
    options = sorted(set(choices))
    close = difflib.get_close_matches(name, options, n=1, cutoff=0.4)
    if close and len(options) > 20:
        return f"did you mean '{close[0]}'?"
    hint = f"did you mean '{close[0]}'? " if close else ""
    return f"{hint}allowed: {', '.join(options[:50])}" if options else "nothing is allowed here"
