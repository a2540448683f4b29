"""``semiseg evaluate``: score a checkpoint, student and teacher."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from semiseg.commands.args import ModelArguments, option, parse
from semiseg.config.check import top_level_names
from semiseg.errors import InputError


@dataclass(frozen=True, kw_only=True)
class Arguments(ModelArguments):
    """Scores student and teacher on the validation images of the run's protocol, or of another one.

    To change the evaluation: eval=NAME, data.root=DIR, protocol.val_split=test, ...
    """

    usage: ClassVar = "semiseg evaluate run=DIR | checkpoint=FILE [key=value ...]"

    output: Path | None = option("write the numbers as JSON", value="FILE")
    overwrite: bool = option("replace an existing output file", False)


def main(argv: Sequence[str]) -> int:
    """Print the scores, and write them on request."""
    if (parsed := parse(argv, Arguments, known=top_level_names)) is None:
        return 0
    arguments, overrides = parsed
    output = arguments.output
    if output is not None:
        check_output(output, overwrite=arguments.overwrite)
    from semiseg.config.settings import stored_settings
    from semiseg.runs.checkpoint import load_checkpoint
    from semiseg.runs.files import write_json
    from semiseg.training.evaluate import evaluate

    path = arguments.file()
    checkpoint = load_checkpoint(path)
    scores = evaluate(stored_settings(checkpoint["semiseg"]["config"], overrides), checkpoint, path)
    print(table(scores))
    if output is not None:
        write_json(output, scores)
    return 0


def check_output(path: Path, *, overwrite: bool) -> None:
    """Check that a file can be written, before doing any work for it.

    Raises:
        InputError: the file exists, or its folder does not exist or is not writable.
    """
    if path.is_dir():
        raise InputError(f"output={path} is a folder: give the name of a file")
    if path.exists() and not overwrite:
        raise InputError(f"output={path} exists and is not overwritten: choose another file, or add overwrite=true")
    if not path.parent.is_dir():
        raise InputError(f"output={path}: no folder {path.parent}; create it first")
    if not os.access(path.parent, os.W_OK):
        raise InputError(f"output={path}: no permission to write to {path.parent}; choose another file")


def table(scores: dict[str, Any]) -> str:
    """The scores in percent, one line each."""
    rows = dict(scores["iou_per_class"])
    rows["pixel accuracy"] = scores["pixel_accuracy"]
    rows |= {f"mIoU {name}": value for name, value in scores["miou"].items()}
    width = max(map(len, rows))
    head = (
        f"{scores['checkpoint']} (step {scores['step']}) on {scores['protocol']}, split {scores['split']}, "
        f"{scores['n_images']} images"
    )
    if len(scores["miou"]) > 1:
        head += f"; classes and pixel accuracy of the {list(scores['miou'])[-1]}"  # the last network is reported
    return "\n".join([head, *(f"  {name.ljust(width)}  {percent(value)}" for name, value in rows.items())])


def percent(value: float | None) -> str:
    """Human-readable percentage."""
    return "     -" if value is None else f"{100 * value:6.2f}"
