"""What the option files say about the methods. Free of Hydra."""

from __future__ import annotations

from typing import NamedTuple

from semiseg.config.paths import conf_dir


class MethodFacts(NamedTuple):
    """One line about a method: its name, where it was published, what it does, the paper."""

    title: str
    venue: str
    about: str
    source: str


def method_facts() -> dict[str, MethodFacts]:
    """Name of each method, as ``method=NAME`` has it, -> what the first line of its option file says."""
    found = {}
    for path in sorted((conf_dir() / "method").glob("*.yaml")):
        facts = path.read_text(encoding="utf-8").splitlines()[0].lstrip("# ").split(" | ")
        found[path.stem] = MethodFacts(*facts)
    return found
