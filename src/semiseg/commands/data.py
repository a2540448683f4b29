"""``semiseg data``: whether a data set is fit to train on, and making a partition. See also `data_lists`."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

from omegaconf import DictConfig

from semiseg.config import compose_config
from semiseg.config.check import check_overrides
from semiseg.config.make import make, partition_args
from semiseg.data.checking.check import check_dataset, format_report
from semiseg.data.checking.sheet import write_sheet
from semiseg.data.datasets.base import SegmentationDataset
from semiseg.data.partitions.splits import make_partition, spread_over_classes, write_lists
from semiseg.errors import InputError, suggest

T = TypeVar("T", int, float)


def main(action: str, overrides: Sequence[str], own: dict[str, str]) -> int:
    """Run ``check`` or ``split``; ``own`` holds the arguments that are no configuration keys."""
    actions = {"check": check, "split": split}
    check_overrides(overrides)
    return actions[action](compose_config(overrides), overrides, own)


def check(cfg: DictConfig, overrides: Sequence[str], own: dict[str, str]) -> int:
    """Name everything that is wrong on disk. Exit code 2 when something is."""
    sheet = Path(own["sheet"]).expanduser() if "sheet" in own else None
    if sheet is not None and sheet.exists() and own.get("overwrite", "false").lower() != "true":
        raise InputError(f"sheet={sheet} exists and is not overwritten: choose another file, or add overwrite=true")
    workers = _number(own, "workers", int)
    if workers is not None and workers < 1:
        raise InputError(f"workers={workers}: expected at least 1 process")
    dataset: SegmentationDataset = make(cfg, "data")
    all_masks = own.get("all_masks", "false").lower() == "true"
    if all_masks:
        print("all_masks=true: the masks of unlabeled images are opened too")
    report = check_dataset(
        dataset,
        partition_args(cfg),
        val_split=cfg.protocol.val_split,
        all_masks=all_masks,
        workers=workers,
        progress=True,
    )
    print(format_report(report))
    if sheet is not None:
        print(f"pictures: {write_sheet(sheet, dataset, report)}")
    if not report.ok:
        return 2
    print(f"next: {_train_command(cfg, overrides)}")
    return 0


def _train_command(cfg: DictConfig, overrides: Sequence[str]) -> str:
    """The exact command that trains on what was checked: every choice is named, defaults too."""
    given = {o.split("=", 1)[0] for o in overrides}
    named = {"data": cfg.choices.data, "data.root": cfg.data.get("root"), "protocol": cfg.protocol.name}
    added = [f"{key}={value}" for key, value in named.items() if key not in given and value is not None]
    if "experiment" in given:  # it chooses data set, protocol and method
        added = [a for a in added if a.startswith("data.root=")]
    elif "method" not in given:
        added.append("method=unimatch")
    return " ".join(["semiseg train", *map(shlex.quote, [*overrides, *added])])


def split(cfg: DictConfig, overrides: Sequence[str], own: dict[str, str]) -> int:
    """Write re-usable list files."""
    if "output" not in own:
        raise InputError("output=DIR is missing: where labeled.txt and unlabeled.txt go")
    count, fraction = _number(own, "count", int), _number(own, "fraction", float)
    seed, spread = int(_number(own, "seed", int) or 0), own.get("spread", "groups")
    if spread not in ("groups", "classes"):
        raise InputError(f"spread={spread}: {suggest(spread, ('groups', 'classes'))}")
    dataset: SegmentationDataset = make(cfg, "data")
    train = cfg.protocol.train_split
    if spread == "classes":
        print("spread=classes: the masks of all candidates are opened to count their classes")
        partition = spread_over_classes(
            dataset, train_split=train, count=count, fraction=fraction, seed=seed, progress=True
        )
    else:
        partition = make_partition(dataset, train_split=train, count=count, fraction=fraction, seed=seed)
    written = write_lists(Path(own["output"]), partition)
    for path in written:
        print(path)
    print(f"{len(partition.labeled)} labeled, {len(partition.unlabeled)} unlabeled, sha256 {partition.sha256}")
    labeled, unlabeled = written[:2]
    lists = f"protocol.labeled={labeled} protocol.unlabeled={unlabeled} protocol.count=null protocol.fraction=null"
    print(f"next: semiseg train {' '.join(overrides)} {lists} method=unimatch")
    return 0


def _number(own: dict[str, str], key: str, kind: type[T]) -> T | None:
    if key not in own:
        return None
    try:
        return kind(own[key])  # type: ignore[call-arg]
    except ValueError as e:
        raise InputError(f"{key}={own[key]}: expected a number") from e
