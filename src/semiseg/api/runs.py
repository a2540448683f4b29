"""Runs from Python: train, evaluate, report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from semiseg.config import compose_run
from semiseg.config.check import check_overrides, options
from semiseg.config.quoting import quoted
from semiseg.errors import InputError, suggest
from semiseg.runs.result import RunResult

if TYPE_CHECKING:
    from semiseg.dashboard.report import Report

Options = Mapping[str, Any]
"""Command-line keys -> values: ``{"model": "segformer_b0", "optim.lr": 0.002, "crop_size": [256, 256]}``."""


class Run(RunResult):
    """The outcome of a run, and its folder."""

    folder: str


def train(
    data: str | Path = "shapes",
    method: str = "supervised",
    *,
    model: str | None = None,
    max_steps: int | None = None,
    seed: int = 0,
    runs: str | Path = "runs",
    options: Options | None = None,
) -> Run:
    """Train one run, as ``semiseg train`` does: an interrupted run is resumed, a complete one is returned.

    Args:
        data: a data set (``semiseg data list``), or a folder of your own images.
        method: see ``semiseg.methods()``.
        model: see ``conf/model``; None: the configuration's default.
        max_steps: optimizer steps; None: those of the protocol.
        seed: seed of weights, order and views.
        runs: folder of all runs.
        options: any other option of the command line.

    Returns:
        The contents of result.json, and the ``folder`` of the run. mIoU in [0, 1] is ``run["miou"]["best"]``.

    Raises:
        InputError: wrong input; nothing has been trained or written.
        RunFailed: training failed; the message gives the reason in one line.
        KeyboardInterrupt: the run was stopped; its checkpoint is written, and the same call resumes it.
    """
    named: dict[str, Any] = {**_data(data), "method": method, "paths.runs": runs}
    named |= {k: v for k, v in {"model": model, "max_steps": max_steps}.items() if v is not None}
    if seed:
        named["seed"] = seed
    given = dict(options or {})
    if twice := sorted(set(named) & set(given)):
        raise InputError(f"options: {', '.join(twice)} is an argument of train(): give it once")
    return train_overrides(written({**named, **given}))


def train_overrides(overrides: Sequence[str]) -> Run:
    """Train the run that the command line ``semiseg train OVERRIDES`` trains, in its folder.

    Raises:
        InputError, RunFailed, KeyboardInterrupt: as ``train``.
    """
    check_overrides(overrides)
    from semiseg.runs.lock import hold
    from semiseg.training.fit import train as fit
    from semiseg.training.launch import run_distributed

    cfg, folder = compose_run(overrides)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as e:
        raise InputError(f"cannot create the run folder {e.filename} ({e.strerror}); give runs=DIR") from e
    with hold(folder):
        if cfg.trainer.devices * cfg.trainer.num_nodes > 1:
            result = run_distributed(cfg.trainer.devices, cfg.trainer.num_nodes, folder, overrides)
        else:
            result = fit(cfg, folder, overrides)
    return Run(**result, folder=str(folder))


def evaluate(
    run: str | Path | Run, *, which: Literal["best", "last"] = "best", options: Options | None = None
) -> dict[str, Any]:
    """Score student and teacher of a run on its validation images, or on those of another protocol.

    Args:
        run: a run folder, a checkpoint, or the return value of ``train``.
        which: which checkpoint of a run folder.
        options: options to change: ``{"eval": "sliding"}``, ``{"protocol.val_split": "test"}``.

    Returns:
        Scores in [0, 1]: ``miou`` by network, ``iou_per_class`` and ``pixel_accuracy`` of the reported network, and
        the data they were measured on.
    """
    from semiseg.config.settings import stored_settings
    from semiseg.runs.checkpoint import load_checkpoint
    from semiseg.training.evaluate import evaluate as score

    path = checkpoint_of(run, which)
    checkpoint = load_checkpoint(path)
    return score(stored_settings(checkpoint["semiseg"]["config"], written(options or {})), checkpoint, path)


def report(*folders: str | Path, output: str | Path | None = None, overwrite: bool = False) -> Report:
    """Write one HTML page over all runs in the folders, with CSV and Markdown tables next to it.

    Args:
        folders: folders of runs; default ``runs``.
        output: the page; None: ``report.html`` in the first folder.
        overwrite: also replace a file that is not a semiseg report.

    Returns:
        The path of the page (``html``), and the table as text (``text``).
    """
    from semiseg.dashboard.report import write_report

    places = [Path(folder) for folder in folders or ("runs",)]
    return write_report(places, Path(output) if output else places[0] / "report.html", overwrite=overwrite)


def checkpoint_of(run: str | Path | Run, which: str = "best") -> Path:
    """The checkpoint of a run folder or of the return value of ``train``, or the file itself.

    Raises:
        InputError: there is no checkpoint.
    """
    from semiseg.training.evaluate import find_checkpoint

    if which not in ("best", "last"):
        raise InputError(f"which={which!r}: {suggest(str(which), ('best', 'last'))}")
    path = Path(run["folder"] if isinstance(run, dict) else run)
    return find_checkpoint(path, None, which) if path.is_dir() else find_checkpoint(None, path)


def written(options: Options) -> list[str]:
    """The options as command-line overrides."""
    return [f"{key}={_text(value)}" if _plain(value) else quoted(key, value) for key, value in options.items()]


def _plain(value: object) -> bool:
    return value is None or (isinstance(value, bool | int | float | Sequence | Mapping) and not isinstance(value, str))


def _text(value: Any) -> str:
    """A value in Hydra's override grammar."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{key}:{_text(v)}" for key, v in value.items()) + "}"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return "[" + ",".join(map(_text, value)) + "]"
    return quoted("k", value).partition("=")[2] if isinstance(value, str | Path) else repr(value)


def _data(data: str | Path) -> dict[str, Any]:
    """The options for a data set, or for a folder of images."""
    names = options("data")
    if str(data) in names:
        return {"data": str(data)}
    if Path(data).is_dir():
        return {"data": "folder", "data.root": Path(data).expanduser()}
    raise InputError(f"data={str(data)!r}: no such folder, and no such data set; {suggest(str(data), names)}")
