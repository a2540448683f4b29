"""The command line. Imports Hydra only: help and mistakes answer at once, torch is imported when work starts."""

from __future__ import annotations

import contextlib
import io
import os
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from semiseg import __version__
from semiseg.errors import InputError, RunFailed, suggest

RUN_DEPTH = 6
"""Folders above a run folder: runs/study/data/partition/method/model."""

USAGE = f"""semiseg {__version__}: an experiment suite for semi-supervised semantic segmentation

usage: semiseg COMMAND [group=option ...] [key=value ...]

commands:
  train      train one run, or a sweep with -m         semiseg train data=shapes method=unimatch
  evaluate   score a checkpoint, student and teacher   semiseg evaluate run=runs/...
  predict    segment your own images                   semiseg predict checkpoint=FILE source=DIR output=DIR
  report     one HTML page over all runs below DIR     semiseg report runs
  data       list, check, split data sets, fetch lists semiseg data check data=folder data.root=DIR
  methods    the methods, one line each                semiseg methods

'semiseg COMMAND --help' says more. Exit codes: 0 done, 1 failed while running, 2 wrong input, 130 interrupted.
"""


def main() -> None:
    """Entry point of the console script."""
    argv = sys.argv[1:]
    try:
        code = _dispatch(argv)
    except InputError as e:
        _tell("input", str(e))
        code = 2
    except RunFailed as e:
        _tell("failed", str(e))
        code = 1
    except KeyboardInterrupt:
        _tell("interrupted", "interrupted")
        code = 130
    except BrokenPipeError:
        sys.stderr.close()
        code = 1
    sys.exit(code)


def _tell(kind: str, line: str) -> None:
    """Print the end of a command in one line, or leave it to the parent process that does."""
    from semiseg.training.launch import leave_error

    if not leave_error(kind, line):
        print(line if kind == "interrupted" else f"error: {line}", file=sys.stderr)


def _dispatch(argv: Sequence[str]) -> int:
    commands: dict[str, Callable[[Sequence[str]], int]] = {
        "train": _train,
        "evaluate": _evaluate,
        "predict": _predict,
        "report": _report,
        "data": _data,
        "methods": _methods,
    }
    if not argv or argv[0] in ("-h", "--help", "help"):
        print(USAGE, end="")
        return 0
    if argv[0] in ("-V", "--version"):
        print(__version__)
        return 0
    if argv[0] not in commands:
        raise InputError(f"unknown command '{argv[0]}': {suggest(argv[0], commands)}")
    return commands[argv[0]](argv[1:])


# -- train ----------------------------------------------------------------------------------------------------


def _train(argv: Sequence[str]) -> int:
    import hydra
    from hydra._internal.utils import get_args_parser
    from hydra.errors import HydraException

    from semiseg.config import conf_dir
    from semiseg.config.check import check_overrides

    try:
        with contextlib.redirect_stderr(io.StringIO()):
            args = get_args_parser().parse_args(list(argv))
    except SystemExit as e:
        raise InputError(f"cannot read the arguments {' '.join(argv)!r}; see semiseg train --help") from e
    for flag, value in (
        ("--config-path", args.config_path),
        ("--config-name", args.config_name),
        ("--config-dir", args.config_dir),
        ("--experimental-rerun", args.experimental_rerun),
    ):
        if value:  # each would bring a configuration that nobody has checked; the last loads a pickle
            raise InputError(f"{flag} is not supported: own option files go below {conf_dir()}, one folder a group")
    if not (args.help or args.hydra_help or args.info or args.shell_completion):
        check_overrides(args.overrides)
    from semiseg.training.launch import placed

    if args.multirun and placed() is not None:
        raise InputError("a sweep (-m) starts its processes itself: run it without torchrun, and without srun's tasks")
    _interrupt_on_notice()
    # Errors reach us as they are; main() decides what a person sees.
    os.environ.setdefault("HYDRA_FULL_ERROR", "1")
    sys.argv = ["semiseg train", *argv]
    started: list[str] = []
    refused: list[InputError] = []

    def job(cfg: Any) -> float | None:
        from hydra.core.hydra_config import HydraConfig

        started.append(HydraConfig.get().runtime.output_dir)
        try:
            return _job(cfg)
        except InputError as e:
            refused.append(e)
            return None

    function: Callable[[Any], float | None] = job
    if args.multirun:
        from semiseg.sweep.task import task as function
    else:
        from semiseg.sweep.processes import follow_sweep

        follow_sweep()
    try:
        hydra.main(version_base="1.3", config_path=str(conf_dir()), config_name="config")(function)()
    except HydraException as e:
        if started:
            raise
        line = " ".join(str(e).split())[:300]
        missing = "; install it with pip install 'semiseg[slurm]'" if "submitit" in line else ""
        raise InputError(f"{line}{missing}") from e
    except OSError as e:
        if started:
            raise
        raise InputError(f"cannot make the run folder {e.filename} ({e.strerror}); set paths.runs=DIR") from e
    if refused:
        _remove_empty(Path(started[0]))
        raise refused[0]
    return 0


def _interrupt_on_notice() -> None:
    """Until training watches for signals by itself, and after it, the end of a cluster's job is a plain interrupt."""
    from semiseg.training.launch import placed

    # One of several processes that wait for each other ends at once: its parent knows why.
    if placed() is None and threading.current_thread() is threading.main_thread():
        for number in (signal.SIGTERM, signal.SIGUSR1):
            signal.signal(number, signal.default_int_handler)


def _remove_empty(folder: Path) -> None:
    """Take back the folders that Hydra made for a run that was refused: the run's own and those above, up to runs."""
    with contextlib.suppress(OSError):
        for path in (folder, *folder.parents[:RUN_DEPTH]):
            if path != Path.cwd():
                path.rmdir()


def _job(cfg: Any) -> float | None:
    """One Hydra job. Returns the best mIoU, the number a sweeper maximizes."""
    from hydra.core.hydra_config import HydraConfig

    from semiseg.config import without_hydra
    from semiseg.runs.folder import hold

    hydra_cfg = HydraConfig.get()
    folder, overrides = hydra_cfg.runtime.output_dir, list(hydra_cfg.overrides.task)
    cfg = without_hydra(cfg, hydra_cfg.runtime.choices)
    from semiseg.training.launch import placed

    if placed() is not None:  # the parent of these processes holds the folder
        return _run(cfg, folder, overrides)
    with hold(Path(folder)):
        return _run(cfg, folder, overrides)


def _run(cfg: Any, folder: str, overrides: Sequence[str]) -> float | None:
    """One run, in this process or in several."""
    from semiseg.training.launch import ERRORS, end_with_parent, leave_error, placed, run_distributed

    if cfg.trainer.devices * cfg.trainer.num_nodes > 1 and placed() is None:
        result = run_distributed(cfg, folder, overrides)
    else:
        if ERRORS in os.environ:
            end_with_parent(os.getppid())
        from semiseg.training.fit import train

        try:
            result = train(cfg, folder, overrides)
        except Exception as e:
            if not isinstance(e, (InputError, RunFailed)) and leave_error("failed", f"{type(e).__name__}: {e}"):
                sys.exit(1)  # the traceback is in log.txt
            raise
    return result["miou"]["best"]


# -- the other commands ---------------------------------------------------------------------------------------


EVALUATE_HELP = """semiseg evaluate run=DIR | checkpoint=FILE [key=value ...]

  run=DIR           a run folder; its best.ckpt is evaluated (which=last for last.ckpt)
  checkpoint=FILE   or one checkpoint
  output=FILE       write the numbers as JSON
  eval=NAME, data.root=DIR, protocol.val_split=test, ...   evaluate under another protocol than the run's own
"""

PREDICT_HELP = """semiseg predict checkpoint=FILE source=FILE-OR-DIR output=DIR [key=value ...]

  checkpoint=FILE       a checkpoint of a run
  source=FILE-OR-DIR    an image, or a folder of images (searched to any depth)
  output=DIR            index PNG with the palette, color overlay; the same folder structure
  network=teacher       teacher (where there is one) or student
  probabilities=true    also class probabilities, .npz
  batch=4               images of equal size per forward pass
  overwrite=true        replace files of an earlier call
  eval=NAME             whole, sliding, resize, ...
"""


def _evaluate(argv: Sequence[str]) -> int:
    own, overrides = _split(argv, ("run", "checkpoint", "which", "output"), EVALUATE_HELP)
    if own is None:
        return 0
    from semiseg.training.evaluate import main as evaluate

    return evaluate(overrides=overrides, **own)


def _predict(argv: Sequence[str]) -> int:
    own, overrides = _split(
        argv,
        ("checkpoint", "source", "output", "network", "probabilities", "batch", "overwrite"),
        PREDICT_HELP,
    )
    if own is None:
        return 0
    from semiseg.training.evaluate import predict_main

    return predict_main(overrides=overrides, **own)


REPORT_HELP = """semiseg report DIR... [key=value ...]

  one page over all runs below, a CSV and a Markdown table beside it; published numbers of the same labeled images

  output=FILE     the page (default: report.html in the first folder)
  --watch         write it again while runs go on: state, progress, time left, failures (also watch=true)
  every=5         seconds between two looks
  quiet=120       ends when nothing runs and nothing has changed for so many seconds
"""


def _report(argv: Sequence[str]) -> int:
    named = ["watch=true" if arg == "--watch" else arg for arg in argv]
    own, folders = _split(named, ("output", "watch", "every", "quiet"), REPORT_HELP)
    if own is None:
        return 0
    if not folders:
        raise InputError("semiseg report needs a folder of runs, for example: semiseg report runs")
    if own.get("watch", "false") not in ("true", "false"):
        raise InputError(f"watch={own['watch']}: expected true or false")
    seconds = {}
    for key, default in (("every", 5.0), ("quiet", 120.0)):
        try:
            seconds[key] = float(own.get(key, default))
        except ValueError:
            seconds[key] = 0.0
        if not 0 < seconds[key] < float("inf"):
            raise InputError(f"{key}={own[key]}: expected a number of seconds, more than 0")
    from semiseg.dashboard.report import main as report

    return report(folders, own.get("output"), watching=own.get("watch") == "true", **seconds)


DATA_HELP = """semiseg data list | check | split | fetch [data=NAME key=value ...]

  list                                    the data sets and protocols known, and what is on this machine
       data=NAME data.root=DIR            one of them; SEMISEG_DATA=DIR: every data set has its folder DIR/NAME
  fetch NAME data.root=DIR                brings the published list files to DIR/partitions, checked by their hash
        partition=NAME/PARTITION          only this one
        source=DIR                        from a checkout of their repository instead of the network
        overwrite=true                    replaces files that hold other images
  check data=NAME data.root=DIR           opens every image and every mask a run would open, names every bad file
        protocol=NAME, protocol.count=N   ... and checks this partition
        all_masks=true                    ... and opens the masks of unlabeled images as well
        sheet=FILE.html                   ... and writes a page of images with their masks, every class in one of them
        workers=N                         processes that read (default: one a core)
  split data=NAME data.root=DIR           writes labeled.txt and unlabeled.txt, for protocol.labeled= and .unlabeled=
        output=DIR count=N | fraction=X   how many of the training images are labeled
        spread=classes                    over classes and groups: opens the masks of all candidates (default: groups)
        seed=N                            another seed, another choice
"""


def _data(argv: Sequence[str]) -> int:
    own, rest = _split(
        argv, ("output", "count", "fraction", "spread", "seed", "all_masks", "sheet", "workers", "overwrite"), DATA_HELP
    )
    if own is None or not rest:
        print(DATA_HELP if own is not None else "", end="")
        return 0
    if argv[0] in ("list", "fetch"):
        from semiseg.commands import data_lists

        return data_lists.list_all(argv[1:]) if argv[0] == "list" else data_lists.fetch(argv[1:])
    if rest[0] not in ("check", "split"):
        raise InputError(f"unknown action 'data {rest[0]}': {suggest(rest[0], ('list', 'check', 'split', 'fetch'))}")
    from semiseg.commands import data as data_cli

    return data_cli.main(rest[0], rest[1:], own)


def _methods(argv: Sequence[str]) -> int:
    from semiseg.config import conf_dir

    rows = []
    for path in sorted((conf_dir() / "method").glob("*.yaml")):
        facts = path.read_text().splitlines()[0].lstrip("# ").split(" | ")
        rows.append([path.stem, *facts])
    widths = [max(len(r[i]) for r in rows) for i in range(len(rows[0]))]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip())
    return 0


def _split(argv: Sequence[str], keys: Sequence[str], usage: str) -> tuple[dict[str, str] | None, list[str]]:
    """Separate a command's own key=value arguments from the rest; None when help was asked for."""
    if any(a in ("-h", "--help") for a in argv):
        print(usage, end="")
        return None, []
    own: dict[str, str] = {}
    rest: list[str] = []
    for arg in argv:
        key, _, value = arg.partition("=")
        if key in keys:
            own[key] = value
        else:
            rest.append(arg)
    return own, rest


if __name__ == "__main__":
    main()
