"""``semiseg train``: one run, or a sweep with ``-m``. A Hydra application."""

from __future__ import annotations

import contextlib
import io
import os
import shlex
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from semiseg.errors import InputError, RunFailed


def main(argv: Sequence[str]) -> int:
    """Check the arguments, then pass them to Hydra, which calls back with each run's configuration."""
    import hydra
    from hydra.errors import HydraException

    from semiseg.commands.dry_run import show_dry_run, without_dry_run
    from semiseg.config import conf_dir
    from semiseg.config.check import check_overrides
    from semiseg.config.quoting import quote_paths
    from semiseg.training.launch import placed

    argv, dry = without_dry_run(expand(argv))
    _hint_at_start(argv)
    argv = quote_paths(argv, multirun=bool({"-m", "--multirun"} & set(argv)))
    args = _hydra_arguments(argv)
    if not (args.help or args.hydra_help or args.info or args.shell_completion):
        check_overrides(args.overrides, multirun=args.multirun)
    if args.multirun and placed() is not None:
        raise InputError("a sweep (-m) starts its processes itself: run it without torchrun, and without srun's tasks")
    _interrupt_on_notice()
    if dry and args.overrides == argv:
        return show_dry_run(argv)
    # Errors must reach us unchanged; semiseg.cli decides what is shown to the user.
    os.environ.setdefault("HYDRA_FULL_ERROR", "1")
    sys.argv = ["semiseg train", *argv]
    started: list[str] = []
    ended: list[InputError | RunFailed] = []

    def job(cfg: Any) -> float | None:
        from hydra.core.hydra_config import HydraConfig

        started.append(HydraConfig.get().runtime.output_dir)
        try:
            return _job(cfg)
        except (InputError, RunFailed) as e:  # Hydra would print a line of its own ahead of ours
            ended.append(e)
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
        raise InputError(f"cannot create the run folder {e.filename} ({e.strerror}); set paths.runs=DIR") from e
    if ended:
        _remove_empty(Path(started[0]))
        raise ended[0]
    return 0


def expand(argv: Sequence[str]) -> list[str]:
    """The command line with short forms expanded.

    Raises:
        InputError: a short form is used where it has no meaning.
    """
    return _with_folds(_with_auto(_with_plan(_with_flag_first(argv))))


def _with_flag_first(argv: Sequence[str]) -> list[str]:
    """The flag of a sweep ahead of the overrides: Hydra's parser does not accept it between them."""
    return sorted(argv, key=lambda word: word not in ("-m", "--multirun"))


def _with_plan(argv: Sequence[str]) -> list[str]:
    """``plan=true`` is short for the sweeper's own key.

    Raises:
        InputError: it is used without ``-m``, or has another value.
    """
    found = list(argv)
    for i, word in enumerate(found):
        if word.startswith("plan="):
            if word not in ("plan=true", "plan=false"):
                raise InputError(f"{word}: expected plan=true or plan=false")
            if not {"-m", "--multirun"} & set(argv):
                raise InputError(f"{word} lists the jobs of a sweep: add -m")
            found[i] = f"hydra.sweeper.{word}"
    return found


def _with_folds(argv: Sequence[str]) -> list[str]:
    """``protocol.folds=K`` alone is a sweep over all K folds."""
    given = dict(word.partition("=")[::2] for word in argv)
    folds = given.get("protocol.folds", "")
    if not folds.isdecimal() or not 2 <= int(folds) <= 1000 or "protocol.fold" in given:
        return list(argv)
    flag = [] if {"-m", "--multirun"} & set(argv) else ["-m"]
    return [*flag, *argv, "protocol.fold=" + ",".join(map(str, range(int(folds))))]


def _hint_at_start(argv: Sequence[str]) -> None:
    """Point to ``semiseg start`` if only the folder is given: the default run is too long for a laptop."""
    roots = [word.partition("=")[2] for word in argv if word.startswith("data.root=")]
    if roots and len(argv) == 2 and "data=folder" in argv:
        line = f"hint: semiseg start {shlex.quote(roots[0])} proposes a run that fits these images and this machine"
        print(line, file=sys.stderr)


def _with_auto(argv: Sequence[str]) -> list[str]:
    """``batch=auto`` is short for ``batch.auto=true``."""
    return ["batch.auto=true" if word == "batch=auto" else word for word in argv]


def _hydra_arguments(argv: Sequence[str]) -> Any:
    """The command line as parsed by Hydra.

    Raises:
        InputError: it cannot be parsed, or a flag would load an unchecked configuration.
    """
    from hydra._internal.utils import get_args_parser

    from semiseg.config import conf_dir

    try:
        with contextlib.redirect_stderr(io.StringIO()):
            args = get_args_parser().parse_args(list(argv))
    except SystemExit as e:
        raise InputError(f"cannot read the arguments {' '.join(argv)!r}; see semiseg train --help") from e
    for flag in ("config_path", "config_name", "config_dir", "experimental_rerun"):  # the last one loads a pickle
        if getattr(args, flag):
            name = flag.replace("_", "-")
            raise InputError(f"--{name} is not supported: put option files in {conf_dir()}, one folder per group")
    return args


def _interrupt_on_notice() -> None:
    """Before and after training, which has its own signal handling, treat the end of a cluster job as Ctrl-C."""
    from semiseg.training.launch import placed

    # One of several processes that wait for each other exits immediately: its parent knows why.
    if placed() is None and threading.current_thread() is threading.main_thread():
        for number in (signal.SIGTERM, signal.SIGUSR1):
            signal.signal(number, signal.default_int_handler)


def _remove_empty(folder: Path) -> None:
    """Remove the empty folders that Hydra created for a rejected run: the run's own and its parents, up to runs."""
    from semiseg.runs.folder import RunFolder

    with contextlib.suppress(OSError):
        for path in (folder.absolute(), *RunFolder(folder).above):
            if path != Path.cwd():
                path.rmdir()


def _job(cfg: Any) -> float | None:
    """Run one Hydra job. Returns the best mIoU, which a sweeper maximizes."""
    from hydra.core.hydra_config import HydraConfig

    from semiseg.config import without_hydra
    from semiseg.runs.lock import hold
    from semiseg.training.launch import placed

    hydra_cfg = HydraConfig.get()
    folder, overrides = hydra_cfg.runtime.output_dir, list(hydra_cfg.overrides.task)
    cfg = without_hydra(cfg, hydra_cfg)  # type: ignore[arg-type]  # a node that types as its schema
    if placed() is not None:  # the parent process holds the lock of the folder
        return _run(cfg, folder, overrides)
    with hold(Path(folder)):
        return _run(cfg, folder, overrides)


def _run(cfg: Any, folder: str, overrides: Sequence[str]) -> float | None:
    """Train one run, in this process or in several."""
    from semiseg.training.launch import ERRORS, end_with_parent, leave_error, placed, run_distributed

    if cfg.trainer.devices * cfg.trainer.num_nodes > 1 and placed() is None:
        result = run_distributed(cfg.trainer.devices, cfg.trainer.num_nodes, folder, overrides)
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
