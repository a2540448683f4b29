"""``semiseg data fetch``: download the published list files of a data set."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from semiseg.commands.args import no_more, option, parse
from semiseg.config.quoting import quoted
from semiseg.config.resolvers import DATA_ROOTS, data_root
from semiseg.data.partitions.fetch import PUBLIC, fetch_lists
from semiseg.data.partitions.official import official_partitions
from semiseg.errors import InputError, suggest


@dataclass(frozen=True, kw_only=True)
class Arguments:
    """Downloads the published list files to DIR/partitions and verifies their hashes."""

    usage: ClassVar = "semiseg data fetch NAME data.root=DIR [key=value ...]"

    data: str = option("the data set; data= may be omitted", "", value="NAME")
    data_root: Path | None = option("its folder", value="DIR", key="data.root")
    partition: str | None = option("only this one", value="NAME/PARTITION")
    source: Path | None = option("from a checkout of their repository instead of the network", value="DIR")
    url: str = option("base URL of the repositories", PUBLIC)
    overwrite: bool = option("replace files that list other images", False)


def main(argv: Sequence[str]) -> int:
    """Fetch the lists of a data set."""
    if (parsed := parse([f"data={a}" if "=" not in a and a[:1] != "-" else a for a in argv], Arguments)) is None:
        return 0
    arguments, rest = parsed
    no_more(rest, Arguments)
    name = arguments.data
    published = sorted({p.data for p in official_partitions() if p.sources})
    if name not in published:
        raise InputError(f"semiseg data fetch DATASET: '{name}' has no published lists: {suggest(name, published)}")
    partitions = official_partitions(name)
    if (wanted := arguments.partition) is not None:
        partitions = [p for p in partitions if p.name == wanted]
        if not partitions:
            raise InputError(f"partition={wanted}: {suggest(wanted, (p.name for p in official_partitions(name)))}")
    root = arguments.data_root or data_root(name)
    if root is None:
        raise InputError(
            f"data.root=DIR is missing: the folder of {name}; or set {DATA_ROOTS}, DIR/{name} is used then"
        )
    if not root.is_dir():
        raise InputError(f"data.root={root}: no such folder; expected the folder of {name}")
    fetch_lists(partitions, root, source=arguments.source, url=arguments.url.rstrip("/"), overwrite=arguments.overwrite)
    place = shlex.quote(quoted("data.root", root))
    print(f"next: semiseg train data={name} {place} protocol={partitions[0].name} method=unimatch")
    return 0
