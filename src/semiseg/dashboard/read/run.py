"""One run folder as a record. Never raises because of the contents of its files."""

from __future__ import annotations

import datetime
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from semiseg.arguments import mask_text
from semiseg.dashboard.read.cache import RunReader
from semiseg.dashboard.read.diagnostics import Diagnostics, read_diagnostics
from semiseg.dashboard.read.files import Unreadable, is_regular, read_json, read_yaml
from semiseg.dashboard.read.metrics import Curve, Metrics, read_metrics
from semiseg.dashboard.read.progress import Progress, is_alive, read_progress
from semiseg.dashboard.read.result import Result, read_result
from semiseg.dashboard.read.values import integer, text, whole
from semiseg.runs.migrate import current_method

Classes = tuple[tuple[str, tuple[int, int, int]], ...]

_IMAGE_NAME = re.compile(r"(?:val|unlabell?ed)_\d{1,9}_[a-z]+")  # older runs spelled "unlabelled"
_SEED_FOLDER = re.compile(r"seed_(\d{1,15})(?:_(?!fold\d)(.+?))?(?:_fold\d{1,4})?")
_LIST_OVERRIDE = re.compile(r"\+{0,2}protocol\.labell?ed=(.+)")

WHOLE_SECONDS = 2.0
"""What two times of a run may differ by where one of them is in whole seconds."""


@dataclass(frozen=True)
class Run:
    """One run folder.

    Attributes:
        folder: its path, below the requested folder.
        status: "completed", "running", "interrupted", "failed", "unfinished" (no result and no heartbeat) or
            "unreadable" (damaged).
        data_id: the data of the run: the recorded fingerprint; "pool ..." with the data shared by all folds of a
            cross-validation; or for older runs "folder ..." with the path of the data; "" if unknown. Runs with
            different ids never share a table.
        validation_id: fingerprint of the validation data; "" for runs that did not record one.
        variant: the suffix of the folder name that encodes the other overrides; "" if there are none.
        overrides: the overrides as typed, with secrets masked.
        evaluation: evaluation mode, such as "Whole" or "Sliding"; "" if the configuration does not say.
        weights: initial weights of the encoder, "none", "hub" or a file; "" if the configuration does not say.
        max_steps: planned steps, from its configuration.
        progress: its last heartbeat.
        metrics: curves and last values.
        images: panels by file stem, such as "val_0_prediction".
        classes: (name, (R, G, B)) of every class, from ``images/classes.json``.
        diagnostics: confusion, calibration and worst images of the last validation; None for runs without.
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
    data_id: str = ""
    validation_id: str = ""
    variant: str = ""
    overrides: tuple[str, ...] = ()
    evaluation: str = ""
    weights: str = ""
    max_steps: int | None = None
    progress: Progress | None = None
    result: Result | None = None
    metrics: Metrics = field(default_factory=Metrics)
    images: dict[str, Path] = field(default_factory=dict)
    classes: Classes = ()
    diagnostics: Diagnostics | None = None
    problems: tuple[str, ...] = ()

    @property
    def curves(self) -> dict[str, Curve]:
        """Scalars over training by column."""
        return self.metrics.curves

    @property
    def sample(self) -> tuple[int, int]:
        """Seed and fold, which distinguish runs that are averaged. Unknown ones come first."""
        fold = self.result.fold if self.result else None
        return (-1 if self.seed is None else self.seed, -1 if fold is None else fold)

    @property
    def last_step(self) -> int | None:
        """The last known step, or None."""
        known = (self.metrics.last_step, self.progress.step if self.progress else None)
        return max((step for step in known if step is not None), default=None)

    @property
    def error(self) -> str | None:
        """Why it stopped, in one line: for a traceback, the line with the exception."""
        if self.status == "running":
            return None
        if self.status == "interrupted" and not self.result:
            return "no heartbeat: the run was killed or its machine went down; the same command resumes it"
        lines = self.result.error.strip().splitlines() if self.result and self.result.error else []
        return lines[-1] if lines else next(iter(self.problems), None)


def read_run(folder: Path, config: object, reader: RunReader) -> Run:
    """Read one run folder; ``config`` is the contents of its ``config.yaml``."""
    try:
        return _read(folder, config if isinstance(config, dict) else {}, reader)
    except Exception as error:  # one bad folder must not prevent the report on all others
        problem = f"{folder}: skipped, {type(error).__name__}: {' '.join(str(error).split())[:200]}"
        return Run(folder, "unreadable", **_place(folder), seed=None, problems=(text(problem) or "",))


def _read(folder: Path, config: dict[str, Any], reader: RunReader) -> Run:
    def once(name: str, read: Callable[[Path, list[str]], Any]) -> Any:
        path = folder / name
        value, found = reader.once(read.__name__, path, lambda: _with_problems(read, path))
        problems.extend(found)
        return value

    problems: list[str] = []
    result, identity, said = once("result.json", read_result)
    metrics: Metrics = once("metrics.csv", read_metrics)
    classes = once("images/classes.json", _read_classes)  # written with every set of panels
    images = once("images", _find_images)
    overrides: tuple[str, ...] = once("overrides.yaml", _read_overrides)
    diagnostics = once("diagnostics.json", read_diagnostics)
    data_digest: str = once("data.json", _read_data_digest)
    progress = read_progress(folder / "progress.json", problems)
    seed_and_variant = _SEED_FOLDER.fullmatch(folder.name)
    who = {key: text(identity.get(key)) or there for key, there in _place(folder).items()}
    who["method"] = current_method(who["method"], config)
    who["partition"] = _list_name(who["partition"], overrides, result)
    seed = integer(identity, "seed") if "seed" in identity else whole(config.get("seed"))
    if seed is None and seed_and_variant:
        seed = int(seed_and_variant[1])
    max_steps = whole(config.get("max_steps"))
    return Run(
        folder,
        _status(folder, said, result, progress),
        **who,
        seed=seed,
        data_id=_data_id(config, result, data_digest),
        validation_id=result.validation_fingerprint if result else "",
        variant=(text(seed_and_variant[2]) or "") if seed_and_variant else "",
        overrides=overrides,
        evaluation=_node(config, "eval", "_target_").rpartition(".")[2],
        weights=_node(config, "model", "weights"),
        max_steps=progress.max_steps if max_steps is None and progress else max_steps,
        progress=progress,
        result=result,
        metrics=metrics,
        images=images,
        classes=classes,
        diagnostics=diagnostics,
        problems=tuple(text(problem) or "" for problem in problems),
    )


def _with_problems(read: Callable[[Path, list[str]], Any], path: Path) -> tuple[Any, list[str]]:
    """The value read, and the problems found."""
    problems: list[str] = []
    return read(path, problems), problems


def _place(folder: Path) -> dict[str, Any]:
    """Names from the parent folders: ``<study>/<data>/<partition>/<method>/<model>/seed_<n>``."""
    parts = ("", "", "", "", "", *folder.absolute().parts)
    names = ("study", "data", "partition", "method", "model")
    return {key: text(value) or "unknown" for key, value in zip(names, parts[-6:-1])}


def _data_id(config: dict[str, Any], result: Result | None, digest: str) -> str:
    if result and result.pool_fingerprint:
        return f"pool {result.pool_fingerprint}"
    if fingerprint := (result and result.data_fingerprint) or digest:
        return fingerprint
    root = _node(config, "data", "root")
    return f"folder {root}" if root else ""


def _list_name(partition: str, overrides: tuple[str, ...], result: Result | None) -> str:
    """The partition, or ``custom_<hash>`` for an older run that used custom lists under a protocol's name."""
    typed = any(_LIST_OVERRIDE.fullmatch(override) for override in overrides)
    if not typed or result is None or result.official or partition.startswith("custom_"):
        return partition
    return f"custom_{(result.labeled_ids_sha256 or 'unknown')[:8]}"


def _read_overrides(path: Path, problems: list[str]) -> tuple[str, ...]:
    try:
        lines = read_yaml(path)
    except FileNotFoundError:
        return ()
    except Unreadable as error:
        problems.append(f"{path}: skipped ({error})")
        return ()
    return tuple(mask_text(text(line) or "") for line in lines) if isinstance(lines, list) else ()


def _read_data_digest(path: Path, problems: list[str]) -> str:
    """Data fingerprint, which a run records before its first step; "" for older runs."""
    try:
        record = read_json(path)
        pool = text(record.get("pool"))
        return f"pool {pool}" if pool else text(record["digest"]) or ""
    except FileNotFoundError:
        return ""
    except (Unreadable, KeyError) as error:
        problems.append(f"{path}: skipped ({error})")
        return ""


def _read_classes(path: Path, problems: list[str]) -> Classes:
    """Names and colors of the classes, from the legend of the panels."""
    try:
        raw = read_json(path)
        colors = [(int(r), int(g), int(b)) for r, g, b in raw["palette"]]
        if not all(0 <= value <= 255 for color in colors for value in color):
            raise ValueError("a color value is outside 0..255")
        return tuple(zip((text(name) or "" for name in raw["classes"]), colors, strict=True))
    except FileNotFoundError:
        return ()
    except (Unreadable, ValueError, KeyError, TypeError, OverflowError) as error:
        problems.append(f"{path}: skipped, expected classes and one [R, G, B] each ({error})")
        return ()


def _find_images(folder: Path, problems: list[str]) -> dict[str, Path]:
    """Panels by stem, in the current spelling."""
    paths = [path for path in sorted(folder.glob("*.png")) if _IMAGE_NAME.fullmatch(path.stem) and is_regular(path)]
    return {path.stem.replace("unlabelled", "unlabeled"): path for path in paths}


def _node(config: dict[str, Any], *keys: str) -> str:
    value: Any = config
    for key in keys:
        value = value.get(key) if isinstance(value, dict) else None
    return (text(value) or "") if isinstance(value, str) else ""


def _status(folder: Path, said: str, result: Result | None, progress: Progress | None) -> str:
    """The status in the result, unless there is a newer heartbeat: then the run is alive, or was killed."""
    if progress is None or said == "completed":  # a complete run is never resumed
        return said
    try:
        # The result is the last file that a run writes. File times on one disk are comparable.
        if (folder / "result.json").stat().st_mtime_ns >= (folder / "progress.json").stat().st_mtime_ns:
            return said
    except OSError:
        pass  # no result yet
    if is_alive(progress):
        return "running"
    # A copy of a folder has file times of its own: what both files say about when they were written counts then.
    return said if result and _seconds(result.finished) >= progress.time - WHOLE_SECONDS else "interrupted"


def _seconds(moment: str | None) -> float:
    """Seconds since the epoch; 0 where nobody says."""
    try:
        return datetime.datetime.fromisoformat(moment or "").timestamp()
    except (ValueError, OverflowError, OSError):
        return 0.0
