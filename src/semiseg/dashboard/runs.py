"""Finds run folders and tells how their runs stand. Knows files, not training: no torch here."""

from __future__ import annotations

import logging
import os
import re
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from semiseg.dashboard.run_files import (
    Curve,
    Progress,
    Result,
    integer,
    read_classes,
    read_curves,
    read_progress,
    read_result,
    read_yaml,
    text,
    whole,
)
from semiseg.errors import InputError

logger = logging.getLogger(__name__)

_IMAGE_NAME = re.compile(r"(?:val|unlabeled)_\d+_[a-z]+")
# A run gives a sign of life every few seconds, or after each step or image where these take longer.
STALE_SECONDS = 600.0

_SEED_FOLDER = re.compile(r"seed_(\d+)(?:_(.+))?")


@dataclass(frozen=True)
class Run:
    """One run folder.

    Attributes:
        folder: where it lies, as reached from the directory that was asked for.
        status: "completed", "running", "interrupted", "failed", "unfinished" (no result and no sign of life) or
            "unreadable" (damaged).
        variant: the suffix of the folder's name that stands for its other overrides; "" when there are none.
        evaluation: mode of the validation, such as "Whole" or "Sliding"; "" when the configuration does not say.
        weights: what the encoder started from, "none", "hub" or a file; "" when the configuration does not say.
        max_steps: steps it should make, from its configuration.
        progress: its last sign of life.
        images: panels by file stem, such as "val_0_prediction".
        classes: (name, (R, G, B)) of every class, from ``images/classes.json``.
        problems: what could not be read, one line each.
    """

    folder: Path
    status: str
    study: str
    data: str
    partition: str
    method: str
    model: str
    seed: int | None
    variant: str
    overrides: tuple[str, ...]
    evaluation: str
    weights: str
    max_steps: int | None
    progress: Progress | None
    result: Result | None
    curves: dict[str, Curve]
    images: dict[str, Path]
    classes: tuple[tuple[str, tuple[int, int, int]], ...]
    problems: tuple[str, ...]

    @property
    def last_step(self) -> int | None:
        """The last step that is known of; None when none is."""
        steps = [int(curve.steps[-1]) for curve in self.curves.values()]
        return max([*steps, *([self.progress.step] if self.progress else [])], default=None)

    @property
    def error(self) -> str | None:
        """Why it stopped, in one line: of a traceback, the line that says what it was."""
        if self.status == "running":
            return None
        if self.status == "interrupted" and not self.result:
            return "ended without a word: killed, or its machine went down; the same command goes on"
        lines = self.result.error.strip().splitlines() if self.result and self.result.error else []
        return lines[-1] if lines else next(iter(self.problems), None)


class RunReader:
    """Reads run folders, and again only what has changed since: a page over hundreds of runs stays cheap."""

    def __init__(self) -> None:
        self._seen: dict[tuple[Path, str], tuple[object, Any]] = {}
        self.told: set[str] = set()

    def once(self, kind: str, path: Path, read: Callable[[], Any]) -> Any:
        """What ``read`` returned when the file was last changed."""
        try:
            stat = path.stat()
            state: object = (stat.st_mtime_ns, stat.st_size, stat.st_ino)
        except OSError:
            state = None
        key = (path, kind)
        if key not in self._seen or self._seen[key][0] != state:
            self._seen[key] = state, read()
        return self._seen[key][1]


def find_runs(dirs: Sequence[Path], reader: RunReader | None = None) -> list[Run]:
    """All runs at or below ``dirs``, sorted by folder, each once. What cannot be read is logged as a warning.

    Args:
        dirs: where to look.
        reader: remembers what it has read before.

    Raises:
        InputError: if a directory does not exist, or no run lies below any of them.
    """
    reader = reader or RunReader()
    if not dirs:
        raise InputError("no folder given to report on: name one or more folders that hold runs, such as 'runs'")
    runs: dict[Path, Run] = {}
    for root in dirs:
        if not root.is_dir():
            raise InputError(f"{root}: no such folder; give a folder that holds runs")
        for folder, config in _run_folders(root, reader):
            if folder.resolve() not in runs:
                runs[folder.resolve()] = read_run(folder, config, reader)
    if not runs:
        named = ", ".join(str(root) for root in dirs)
        raise InputError(f"no run found below {named}: a run folder holds a config.yaml, made by 'semiseg train'")
    for problem in (problem for run in runs.values() for problem in run.problems):
        if problem not in reader.told:
            logger.warning("%s", problem)
            reader.told.add(problem)
    return sorted(runs.values(), key=lambda run: run.folder.as_posix())


def _run_folders(root: Path, reader: RunReader) -> Iterator[tuple[Path, dict[str, Any]]]:
    for name, subfolders, files in os.walk(root):
        # .hydra and wandb folders hold a config.yaml of their own.
        subfolders[:] = sorted(s for s in subfolders if not s.startswith(".") and s != "wandb")
        if "config.yaml" not in files:
            continue
        path = Path(name, "config.yaml")
        config = reader.once("config", path, lambda path=path: read_yaml(path))  # type: ignore[misc]
        if isinstance(config, dict) and "defaults" in config:
            continue  # the configuration tree itself, found because somebody reports on "."
        yield Path(name), config if isinstance(config, dict) else {}
        subfolders.clear()  # nothing below a run is another run


def read_run(folder: Path, config: dict[str, Any], reader: RunReader) -> Run:
    """Read one run folder; ``config`` is its parsed ``config.yaml``. Never raises for what the files hold."""
    (result, identity, status), problems = reader.once(
        "result", folder / "result.json", lambda: _with_problems(read_result, folder / "result.json")
    )
    curves, curve_problems = reader.once(
        "curves", folder / "metrics.csv", lambda: _with_problems(read_curves, folder / "metrics.csv")
    )
    legend = folder / "images" / "classes.json"  # written with every set of panels
    classes, class_problems = reader.once("classes", legend, lambda: _with_problems(read_classes, legend))
    images = reader.once("images", folder / "images", lambda: _images(folder / "images"))
    overrides = reader.once("overrides", folder / "overrides.yaml", lambda: read_yaml(folder / "overrides.yaml"))
    progress = read_progress(folder / "progress.json")
    # Without a result the place says what it is: <study>/<data>/<partition>/<method>/<model>/seed_<n>.
    parts = ("", "", "", "", "", *folder.absolute().parts)
    place = dict(zip(("study", "data", "partition", "method", "model"), parts[-6:-1]))
    seed_and_variant = _SEED_FOLDER.fullmatch(folder.name)
    who = {key: text(identity.get(key)) or text(place[key]) or "unknown" for key in place}
    seed = integer(identity, "seed") if "seed" in identity else whole(config.get("seed"))
    if seed is None and seed_and_variant:
        seed = int(seed_and_variant[1])
    max_steps = whole(config.get("max_steps"))
    return Run(
        folder=folder,
        status=_status(folder, status, progress),
        **who,
        seed=seed,
        variant=(seed_and_variant[2] or "") if seed_and_variant else "",
        overrides=tuple(str(line) for line in overrides) if isinstance(overrides, list) else (),
        evaluation=_node(config, "eval", "_target_").rpartition(".")[2],
        weights=_node(config, "model", "weights"),
        max_steps=progress.max_steps if max_steps is None and progress else max_steps,
        progress=progress,
        result=result,
        curves=curves,
        images=images,
        classes=classes,
        problems=(*problems, *curve_problems, *class_problems),
    )


def _with_problems(read: Callable[[Path, list[str]], Any], path: Path) -> tuple[Any, list[str]]:
    """What was read, and what could not be."""
    problems: list[str] = []
    return read(path, problems), problems


def _images(folder: Path) -> dict[str, Path]:
    return {path.stem: path for path in sorted(folder.glob("*.png")) if _IMAGE_NAME.fullmatch(path.stem)}


def _node(config: dict[str, Any], *keys: str) -> str:
    value: Any = config
    for key in keys:
        value = value.get(key) if isinstance(value, dict) else None
    return value if isinstance(value, str) else ""


def _status(folder: Path, said: str, progress: Progress | None) -> str:
    """What the result says, unless the run has given a sign of life since: then it runs, or was killed."""
    if progress is None:
        return said
    try:
        # The result is the last thing that a run writes. File times of one disk can be compared.
        if (folder / "result.json").stat().st_mtime_ns >= (folder / "progress.json").stat().st_mtime_ns:
            return said
    except OSError:
        pass  # no result yet
    return "running" if is_alive(progress) else "interrupted"


def is_alive(progress: Progress) -> bool:
    """Whether the process that gave the sign works still: by its number on this host, by the sign's age elsewhere."""
    if time.time() - progress.time > STALE_SECONDS:
        return False
    if progress.host != socket.gethostname():
        return True
    try:
        os.kill(progress.pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True  # it is somebody else's
    return True
