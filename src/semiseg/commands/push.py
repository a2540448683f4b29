"""``semiseg push``: upload a trained model to the Hugging Face hub."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from semiseg.commands.args import ModelArguments, no_more, option, parse
from semiseg.errors import InputError


@dataclass(frozen=True, kw_only=True)
class Arguments(ModelArguments):
    """Uploads weights, model card and exports (from export/ in the run folder) to the Hugging Face hub.

    semiseg.load("hf://OWNER/NAME") loads them. Log in with 'hf auth login' first. Optimizer state and local paths are
    not uploaded.
    """

    usage: ClassVar = "semiseg push run=DIR | checkpoint=FILE repo=OWNER/NAME [key=value ...]"

    repo: str | None = option("the repository; created if missing", value="OWNER/NAME")
    private: bool = option("whether a new repository is private", True)


def main(argv: Sequence[str]) -> int:
    """Push, and print the URL."""
    if (parsed := parse(argv, Arguments)) is None:
        return 0
    arguments, rest = parsed
    no_more(rest, Arguments)
    if arguments.repo is None:
        raise InputError("repo=OWNER/NAME is missing; see semiseg push --help")
    from semiseg.export.hub import push

    path = arguments.file()
    exports = arguments.run / "export" if arguments.run else None
    print(f"uploaded: {push(path, arguments.repo, exports=exports, private=arguments.private)}")
    return 0
