"""``semiseg methods``: the methods, one line each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from semiseg.commands.args import no_more, parse
from semiseg.config.facts import method_facts


@dataclass(frozen=True, kw_only=True)
class Arguments:
    """Name, venue, what it does and paper of each method."""

    usage: ClassVar = "semiseg methods"


def main(argv: Sequence[str]) -> int:
    """Print the first line of every option file."""
    if (parsed := parse(argv, Arguments)) is None:
        return 0
    no_more(parsed[1], Arguments)
    rows = [[name, *facts] for name, facts in method_facts().items()]
    widths = [max(len(r[i]) for r in rows) for i in range(len(rows[0]))]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip())
    return 0
