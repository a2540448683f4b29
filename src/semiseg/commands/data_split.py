"""``semiseg data split``: choose the labeled images and write list files."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from semiseg.commands.args import option, parse
from semiseg.config import compose_config
from semiseg.config.check import check_overrides, top_level_names
from semiseg.config.make import make
from semiseg.config.quoting import quote_paths, quoted
from semiseg.errors import InputError


@dataclass(frozen=True, kw_only=True)
class Arguments:
    """Writes labeled.txt and unlabeled.txt, for protocol.labeled= and protocol.unlabeled=."""

    usage: ClassVar = "semiseg data split data=NAME data.root=DIR output=DIR count=N | fraction=X [key=value ...]"

    output: Path | None = option("where labeled.txt and unlabeled.txt go", value="DIR")
    count: Annotated[int, Field(ge=1)] | None = option("number of labeled training images", value="N")
    fraction: Annotated[float, Field(gt=0, le=1)] | None = option("or their fraction", value="X")
    spread: Literal["groups", "classes"] = option(
        "classes: over classes and groups, opens the masks of all candidates", "groups"
    )
    seed: Annotated[int, Field(ge=0)] = option("seed of the selection", 0)


def main(argv: Sequence[str]) -> int:
    """Write reusable list files."""
    if (parsed := parse(argv, Arguments, known=top_level_names)) is None:
        return 0
    arguments, overrides = parsed
    if arguments.output is None:
        raise InputError("output=DIR is missing: where labeled.txt and unlabeled.txt go")
    check_overrides(overrides)
    cfg = compose_config(overrides)
    from semiseg.data.partitions.splits import make_partition, spread_over_classes, write_lists

    dataset, train = make(cfg, "data"), cfg.protocol.train_split
    count, fraction, seed = arguments.count, arguments.fraction, arguments.seed
    if arguments.spread == "classes":
        print("spread=classes: the masks of all candidates are opened to count their classes")
        partition = spread_over_classes(
            dataset, train_split=train, count=count, fraction=fraction, seed=seed, progress=True
        )
    else:
        partition = make_partition(dataset, train_split=train, count=count, fraction=fraction, seed=seed)
    written = write_lists(arguments.output, partition)
    for path in written:
        print(path)
    print(f"{len(partition.labeled)} labeled, {len(partition.unlabeled)} unlabeled, sha256 {partition.sha256}")
    labeled, unlabeled = written[:2]
    lists = [quoted("protocol.labeled", labeled), quoted("protocol.unlabeled", unlabeled)]
    words = [*quote_paths(overrides), *lists, "protocol.count=null", "protocol.fraction=null", "method=unimatch"]
    print(f"next: semiseg train {' '.join(map(shlex.quote, words))}")
    return 0
