"""``semiseg data list``: known data sets and protocols, and what is available on this machine."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from omegaconf import DictConfig

from semiseg.commands.args import no_more, option, parse
from semiseg.config import compose_config, conf_dir
from semiseg.config.check import options
from semiseg.config.make import make
from semiseg.config.resolvers import DATA_ROOTS
from semiseg.data.partitions.official import OfficialPartition, find_official_list, official_partition
from semiseg.errors import InputError, suggest

WIDTH = 100  # characters per line
COLUMNS = (21, 8, 10, 16, 18)  # column widths; a wider cell pushes the rest to the right


@dataclass(frozen=True, kw_only=True)
class Arguments:
    """Known data sets and protocols, and what is available on this machine.

    With SEMISEG_DATA=DIR, each data set is looked up in DIR/NAME.
    """

    usage: ClassVar = "semiseg data list [data=NAME [data.root=DIR]]"

    data: str | None = option("only this one", value="NAME")
    data_root: Path | None = option("its folder", value="DIR", key="data.root")


def main(argv: Sequence[str]) -> int:
    """Print one block per data set: description, availability, and protocols with counts, family and lists."""
    if (parsed := parse(argv, Arguments)) is None:
        return 0
    no_more(parsed[1], Arguments)
    names, root = _data_sets(parsed[0])
    for name in names:
        cfg = compose_config([f"data={name}"])
        if root is not None:
            cfg.data.root = str(root)
        place = cfg.data.get("root")
        about = (conf_dir() / "data" / f"{name}.yaml").read_text(encoding="utf-8").splitlines()[0].lstrip("# ")
        _paragraph(f"{name}: {about}")
        _paragraph(f"  {_presence(cfg)}")
        rows = [row for p in options("protocol") if (row := _row(name, p, place))]
        rows.sort(key=lambda row: (row[3], row[0].rsplit("_", 1)[0], _number(row[1])))
        _table([("protocol", "labeled", "unlabeled", "family", "lists"), *rows])
        print()
    print(f"To set the data location: {DATA_ROOTS}=DIR with one folder per data set, or data=NAME data.root=DIR.")
    print("To fetch missing lists: semiseg data fetch NAME data.root=DIR")
    return 0


def _data_sets(arguments: Arguments) -> tuple[list[str], Path | None]:
    """The requested data sets (all by default), and the folder given for one of them."""
    known = options("data")
    if arguments.data is None:
        if arguments.data_root is not None:
            raise InputError("data.root=DIR is the folder of one data set: add data=NAME")
        return known, None
    if arguments.data not in known:
        raise InputError(f"unknown data '{arguments.data}': {suggest(arguments.data, known)}")
    return [arguments.data], arguments.data_root


def _presence(cfg: DictConfig) -> str:
    """Whether the images are available. Lists folders, opens no image."""
    root = cfg.data.get("root")
    if "root" in cfg.data and root is None:
        return "not checked: no data.root"
    if root is not None and not Path(root).is_dir():
        return f"not found: no folder {root}"
    try:
        dataset = make(cfg, "data")
        splits = {split: len(dataset.ids(split)) for split in (cfg.protocol.train_split, cfg.protocol.val_split)}
    except InputError as error:
        return f"not found: {error}"
    return ("available: " if root is None else f"available in {root}: ") + ", ".join(
        f"{n} images in {s}" for s, n in splits.items()
    )


def _row(name: str, protocol: str, root: str | None) -> tuple[str, str, str, str, str] | None:
    """The cells of one protocol; None for protocols of other data sets and for `default`."""
    if not protocol.startswith(f"{name}/") or protocol.endswith("/default"):
        return None
    official = official_partition(protocol)
    if official is None:
        p = compose_config([f"data={name}", f"protocol={protocol}"]).protocol
        share = f"{100 * p.fraction:.3g} %" if p.fraction else str(p.count)
        return protocol, share, "the rest", "-", "chosen at startup"
    return protocol, str(official.n_labeled), str(official.n_unlabeled), official.family, _lists(official, root)


def _lists(partition: OfficialPartition, root: str | None) -> str:
    if not partition.sources:
        return "in the package"
    return "fetched" if find_official_list(partition.name, "labeled", root) else "not fetched"


def _number(text: str) -> float:
    return float(text.split()[0])


def _paragraph(text: str) -> None:
    print(textwrap.fill(text, WIDTH, subsequent_indent="    ", break_long_words=False, break_on_hyphens=False))


def _table(rows: Sequence[Sequence[str]]) -> None:
    for row in rows:
        cells = [c.rjust(w) if i in (1, 2) else c.ljust(w) for i, (c, w) in enumerate(zip(row, COLUMNS))]
        print("  " + "  ".join(cells).rstrip())
