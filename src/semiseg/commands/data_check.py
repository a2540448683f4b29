"""``semiseg data check``: check whether a data set can be trained on."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar

from omegaconf import DictConfig
from pydantic import Field

from semiseg.commands.args import option, parse
from semiseg.config import compose_config
from semiseg.config.check import check_overrides, top_level_names
from semiseg.config.make import make, partition_args
from semiseg.config.quoting import quote_paths, quoted
from semiseg.errors import InputError


@dataclass(frozen=True, kw_only=True)
class Arguments:
    """Opens every image and mask that a run would open, and names every bad file."""

    usage: ClassVar = "semiseg data check data=NAME data.root=DIR [protocol=NAME] [key=value ...]"

    all_masks: bool = option("also open the masks of unlabeled images", False)
    sheet: Path | None = option("write a page of images with masks that shows every class", value="FILE")
    workers: Annotated[int, Field(ge=1)] | None = option("reader processes (default: one per core)", value="N")
    overwrite: bool = option("replace an existing sheet", False)


def main(argv: Sequence[str]) -> int:
    """Print every problem found on disk. Exit code 2 if there is one."""
    if (parsed := parse(argv, Arguments, known=top_level_names)) is None:
        return 0
    arguments, overrides = parsed
    sheet = arguments.sheet
    if sheet is not None and sheet.exists() and not arguments.overwrite:
        raise InputError(f"sheet={sheet} exists and is not overwritten: choose another file, or add overwrite=true")
    check_overrides(overrides)
    cfg = compose_config(overrides)
    from semiseg.data.checking.check import check_dataset
    from semiseg.data.checking.report import format_report
    from semiseg.data.checking.sheet import write_sheet

    dataset = make(cfg, "data")
    if arguments.all_masks:
        print("all_masks=true: the masks of unlabeled images are opened too")
    report = check_dataset(
        dataset,
        partition_args(cfg),
        val_split=cfg.protocol.val_split,
        all_masks=arguments.all_masks,
        workers=arguments.workers,
        progress=True,
    )
    print(format_report(report))
    if sheet is not None:
        print(f"pictures: {write_sheet(sheet, dataset, report)}")
    if not report.ok:
        return 2
    print(f"next: {start_command(cfg, overrides) or train_command(cfg, overrides)}")
    return 0


def start_command(cfg: DictConfig, overrides: Sequence[str]) -> str | None:
    """The command that proposes a run; None for other data sets, or if a method or a recipe is chosen."""
    given = {o.split("=", 1)[0] for o in overrides}
    if cfg.choices.data != "folder" or {"method", "experiment"} & given:
        return None
    rest = [o for o in overrides if o.split("=", 1)[0] not in ("data", "data.root")]
    return shlex.join(["semiseg", "start", str(cfg.data.root), *quote_paths(rest)])


def train_command(cfg: DictConfig, overrides: Sequence[str]) -> str:
    """The exact command that trains on the checked data: all choices are spelled out, including defaults."""
    given = {o.split("=", 1)[0] for o in overrides}
    named = {"data": cfg.choices.data, "data.root": cfg.data.get("root"), "protocol": cfg.protocol.name}
    added = [quoted(key, value) for key, value in named.items() if key not in given and value is not None]
    if "experiment" in given:  # it selects data set, protocol and method
        added = [a for a in added if a.startswith("data.root=")]
    elif "method" not in given:
        added.append("method=unimatch")
    return " ".join(["semiseg train", *map(shlex.quote, [*quote_paths(overrides), *added])])
