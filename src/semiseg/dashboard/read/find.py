"""Finds run folders. Reads files only and does not import torch."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from semiseg.dashboard.read.cache import RunReader
from semiseg.dashboard.read.files import Unreadable, read_yaml
from semiseg.dashboard.read.index import load_index, save_index
from semiseg.dashboard.read.run import Run, read_run
from semiseg.errors import InputError

logger = logging.getLogger(__name__)


def find_runs(dirs: Sequence[Path], reader: RunReader | None = None) -> list[Run]:
    """All runs at or below ``dirs``, sorted by folder, without duplicates. Unreadable files are logged as warnings.

    Args:
        dirs: folders to search.
        reader: caches what it has read before.

    Raises:
        InputError: a folder does not exist, or none of them contains a run.
    """
    reader = reader or RunReader()
    if not dirs:
        raise InputError("no folder given to report on: name one or more folders that contain runs, such as 'runs'")
    runs: dict[Path, Run] = {}
    for root in dirs:
        if not root.is_dir():
            raise InputError(f"{root}: no such folder; give a folder that contains runs")
        load_index(root, reader)
        below = list(_run_folders(root, reader))
        for folder, config in below:
            if folder.resolve() not in runs:
                runs[folder.resolve()] = read_run(folder, config, reader)
        save_index(root, reader, [folder / "metrics.csv" for folder, _ in below])
    if not runs:
        named = ", ".join(str(root) for root in dirs)
        raise InputError(f"no run found below {named}: a run folder contains a config.yaml, made by 'semiseg train'")
    for problem in (problem for run in runs.values() for problem in run.problems):
        if problem not in reader.told:
            logger.warning("%s", problem)
            reader.told.add(problem)
    return sorted(runs.values(), key=lambda run: run.folder.as_posix())


def _run_folders(root: Path, reader: RunReader) -> Iterator[tuple[Path, object]]:
    """Folders with a config.yaml, and its contents."""
    for name, subfolders, files in os.walk(root):
        # .hydra and wandb folders contain their own config.yaml.
        subfolders[:] = sorted(s for s in subfolders if not s.startswith(".") and s != "wandb")
        if "config.yaml" not in files:
            continue
        path = Path(name, "config.yaml")
        config = reader.once("config", path, lambda path=path: _read_config(path))  # type: ignore[misc]
        if isinstance(config, dict) and "defaults" in config:
            continue  # the configuration tree itself, found when reporting on "."
        yield Path(name), config
        subfolders.clear()  # runs are not nested


def _read_config(path: Path) -> object:
    try:
        return read_yaml(path)
    except (OSError, Unreadable):
        return None  # the folder still counts as a run; the rest can be read without it
