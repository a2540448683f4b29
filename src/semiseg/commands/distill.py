"""``semiseg distill``: train a small student from a finished teacher."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field

from semiseg.commands.args import ModelArguments, option, parse
from semiseg.commands.evaluate import percent
from semiseg.config.check import check_overrides, options, top_level_names
from semiseg.errors import InputError, suggest

if TYPE_CHECKING:
    from semiseg.labeling.distill import Distilled


@dataclass(frozen=True, kw_only=True)
class Arguments(ModelArguments):
    """Trains a small network on the labels of a run and on its pseudo-labels of all unlabeled images.

    The teacher labels them once; the masks are kept under paths.runs. The student is an ordinary run of
    method=supervised with the data, steps, crop and evaluation of the teacher; give keys of semiseg train to change
    that: optim=adamw_poly, max_steps=8000, model.weights=package.
    """

    usage: ClassVar = "semiseg distill run=DIR | checkpoint=FILE model=NAME [group=option key=value ...]"

    model: str | None = option("network of the student: tiny, deeplabv3plus_lite0, ...", value="NAME")
    threshold: Annotated[float, Field(ge=0, le=1)] = option("pixels with a lower class probability get no label", 0.9)
    export: Literal["onnx", "torch", "openvino"] | None = option("export the student: onnx, torch or openvino")


def main(argv: Sequence[str]) -> int:
    """Label, train, compare, and export on request."""
    if (parsed := parse(argv, Arguments, known=top_level_names)) is None:
        return 0
    arguments, overrides = parsed
    if arguments.model is None:
        raise InputError("model=NAME is missing: the network of the student, for example model=deeplabv3plus_lite0")
    if arguments.model not in options("model"):
        raise InputError(f"model={arguments.model}: {suggest(arguments.model, options('model'))}")
    fixed = {"method": "supervised", "pseudo_labels": "that of the teacher"}
    for word in overrides:
        if (key := word.lstrip("+").partition("=")[0]) in fixed:
            raise InputError(f"{word}: {key} is {fixed[key]} here; leave it out")
    check_overrides([f"model={arguments.model}", *overrides])
    from semiseg.commands import export
    from semiseg.labeling.distill import distill

    path = arguments.file()
    found = distill(path, arguments.model, overrides, run=arguments.run, threshold=arguments.threshold, progress=True)
    print(table(found))
    if arguments.export is not None:
        return export.main([f"run={found['folder']}", f"format={arguments.export}", "overwrite=true"])
    return 0


def table(found: Distilled) -> str:
    """Comparison of teacher and student."""
    rows = [("", "method", "model", "mIoU", "parameters", "ms an image")]
    for name, side in (("teacher", found["teacher"]), ("student", found["student"])):
        count, ms = f"{side['parameters']:,}", f"{side['ms_per_image']:.1f}"
        rows.append((name, side["method"], side["model"], percent(side["miou"]).strip(), count, ms))
    widths = [max(map(len, column)) for column in zip(*rows)]
    lines = [
        "  ".join(cell.ljust(w) if k < 3 else cell.rjust(w) for k, (cell, w) in enumerate(zip(row, widths)))
        for row in rows
    ]
    labels, (height, width) = found["pseudo_labels"], found["image_size"]
    return "\n".join(
        [
            *lines,
            f"mIoU on {found['n_val']} validation images; times on {found['device']} ({found['threads']} threads), "
            f"images of {width} x {height} pixels",
            f"pseudo-labels: {labels['images']} images, probability of at least {labels['threshold']:g}, "
            f"{100 * labels['share']:.0f} % of their pixels; run {labels['run']}, "
            f"checkpoint {labels['checkpoint_sha256'][:8]}",
            f"student  {found['folder']}",
        ]
    )
