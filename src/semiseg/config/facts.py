"""Facts about the methods, read from their option files. Does not import Hydra."""

from __future__ import annotations

from typing import NamedTuple

from semiseg.config.paths import conf_dir


class MethodFacts(NamedTuple):
    """Summary of a method: its name, venue, what it does, the paper."""

    title: str
    venue: str
    about: str
    source: str


def method_facts() -> dict[str, MethodFacts]:
    """Option name of each method (``method=NAME``) -> the facts in the first line of its option file."""
    found = {}
    for path in sorted((conf_dir() / "method").glob("*.yaml")):
        facts = path.read_text(encoding="utf-8").splitlines()[0].lstrip("# ").split(" | ")
        found[path.stem] = MethodFacts(*facts)
    return found
