"""``semiseg train ... dry_run=true``: checks a run and estimates its time and memory."""

from __future__ import annotations

import logging
import shlex
from collections.abc import Sequence

from semiseg.errors import InputError


def without_dry_run(argv: Sequence[str]) -> tuple[list[str], bool]:
    """Split off ``dry_run=true``: it is not part of the configuration, which would give the run another folder.

    Raises:
        InputError: it is combined with ``-m``, or has another value.
    """
    words = [word for word in argv if word.startswith("dry_run=")]
    for word in words:
        if word not in ("dry_run=true", "dry_run=false"):
            raise InputError(f"{word}: expected dry_run=true or dry_run=false")
    if "dry_run=true" in words[-1:] and {"-m", "--multirun"} & set(argv):
        raise InputError("dry_run=true is for one run; for a sweep, plan=true lists the jobs with a time estimate")
    return [word for word in argv if word not in words], "dry_run=true" in words[-1:]


def show_dry_run(overrides: Sequence[str]) -> int:
    """Print a summary of the run with its estimated time and memory."""
    from semiseg.training.dry_run import DryRun, describe, dry_run
    from semiseg.training.launch import placed

    if placed() is not None:
        raise InputError("dry_run=true uses one process: run it without torchrun, and without srun's tasks")
    logging.basicConfig(format="%(message)s")
    logging.getLogger("semiseg").setLevel(logging.INFO)
    found = dry_run(overrides)
    if isinstance(found, DryRun):
        print(describe(found))
        print(f"next: {shlex.join(['semiseg', 'train', *overrides])}")
    else:
        print("already complete (overwrite=true trains it again); nothing was measured")
    return 0
