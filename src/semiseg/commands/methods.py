"""``semiseg methods``: the methods, two lines each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from semiseg.commands.args import no_more, parse
from semiseg.config.facts import method_facts


@dataclass(frozen=True, kw_only=True)
class Arguments:
    """What each method does, and its title, venue and paper."""

    usage: ClassVar = "semiseg methods"


def main(argv: Sequence[str]) -> int:
    """Print the first line of every option file."""
    if (parsed := parse(argv, Arguments)) is None:
        return 0
    no_more(parsed[1], Arguments)
    rows = method_facts()
    width = max(map(len, rows))
    for name, (title, venue, what, paper) in rows.items():
        print(f"{name:<{width}}  {what}")
        print(f"{'':<{width}}  {', '.join(fact for fact in (title, venue, paper) if fact != '-')}")
    return 0
