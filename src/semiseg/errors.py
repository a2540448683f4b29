"""Errors with a message for the user."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class InputError(ValueError):
    """Invalid input: one line with what is wrong, where, and what to do. The CLI prints it and exits with code 2."""


class RunFailed(RuntimeError):
    """A run failed for a reason given in one line. The CLI prints it and exits with code 1."""


def suggest(name: str, choices: Iterable[str]) -> str:
    """The nearest match of ``name`` among ``choices`` and the allowed values, as the end of an error message."""
    options = sorted(set(choices))
    close = difflib.get_close_matches(name, options, n=1, cutoff=0.4)
    if close and len(options) > 20:
        return f"did you mean '{close[0]}'?"
    hint = f"did you mean '{close[0]}'? " if close else ""
    return f"{hint}allowed: {', '.join(options[:50])}" if options else "nothing is allowed here"
