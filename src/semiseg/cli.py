"""The command line: a table of commands. Nothing heavy is imported, so help and error messages appear immediately."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence

from semiseg import __version__
from semiseg.errors import InputError, RunFailed, suggest

COMMANDS = {  # name -> module with main(arguments) -> exit code, what it does, an example
    "start": ("semiseg.commands.start", "propose a first run for your own photos", "my_data"),
    "train": ("semiseg.commands.train", "train one run, or a sweep with -m", "data=shapes method=unimatch"),
    "evaluate": ("semiseg.commands.evaluate", "score a checkpoint, student and teacher", "run=runs/..."),
    "predict": ("semiseg.commands.predict", "segment your own images", "run=runs/... source=DIR output=DIR"),
    "export": ("semiseg.commands.export", "export a network, with a model card", "run=runs/... format=onnx"),
    "push": ("semiseg.commands.push", "upload a model to the Hugging Face hub", "run=runs/... repo=OWNER/NAME"),
    "next": ("semiseg.commands.next", "which images to label next", "run=runs/... output=DIR count=20"),
    "distill": ("semiseg.commands.distill", "a small student of a finished run", "run=runs/... model=tiny"),
    "report": ("semiseg.commands.report", "one HTML page over all runs below DIR", "runs"),
    "forecast": ("semiseg.commands.forecast", "estimate what more labels would bring", "runs/labels"),
    "worker": ("semiseg.commands.worker", "run the planned runs of a study", "runs/default"),
    "data": ("semiseg.commands.data", "list, check, split data sets, fetch lists", "check data=folder data.root=DIR"),
    "bench": ("semiseg.commands.bench", "where the time of a step goes", "step method=u2pl"),
    "methods": ("semiseg.commands.methods", "the methods, one line each", ""),
}

ROWS = [f"  {name:10} {about:41} semiseg {name} {example}".rstrip() for name, (_, about, example) in COMMANDS.items()]
USAGE = f"""semiseg {__version__}: an experiment suite for semi-supervised semantic segmentation

usage: semiseg COMMAND [group=option ...] [key=value ...]

commands:
{chr(10).join(ROWS)}

'semiseg COMMAND --help' says more. Exit codes: 0 done, 1 failed while running, 2 wrong input, 130 interrupted.
"""


def main() -> None:
    """Entry point of the console script."""
    try:
        code = _dispatch(sys.argv[1:])
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


def _dispatch(argv: Sequence[str]) -> int:
    if not argv or argv[0] in ("-h", "--help", "help"):
        print(USAGE, end="")
        return 0
    if argv[0] in ("-V", "--version"):
        print(__version__)
        return 0
    if argv[0] not in COMMANDS:
        raise InputError(f"unknown command '{argv[0]}': {suggest(argv[0], COMMANDS)}")
    code: int = importlib.import_module(COMMANDS[argv[0]][0]).main(argv[1:])
    return code


def _tell(kind: str, line: str) -> None:
    """Print the reason a command ended in one line, or leave that to the parent process."""
    from semiseg.training.launch import leave_error

    if not leave_error(kind, line):
        print(line if kind == "interrupted" else f"error: {line}", file=sys.stderr)


if __name__ == "__main__":
    main()
