"""``semiseg export``: export a trained network for use in other programs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

from semiseg.commands.args import ModelArguments, option, parse
from semiseg.config.check import top_level_names
from semiseg.errors import InputError

if TYPE_CHECKING:
    from semiseg.export.write import Exported


@dataclass(frozen=True, kw_only=True)
class Arguments(ModelArguments):
    """Writes the network, a model card, and a short program that runs it without semiseg.

    Compares the file with PyTorch on 8 validation images. The network is exported as one forward pass: the eval= mode
    of the run, such as sliding windows, is documented in the card and left to the program.
    """

    usage: ClassVar = "semiseg export run=DIR | checkpoint=FILE format=onnx|torch|openvino [key=value ...]"

    network: str | None = option("teacher or student (default: the one the method reports)", value="NAME")
    format: Literal["onnx", "torch", "openvino"] = option("onnx, torch (torch.export) or openvino", "onnx")
    output: Path | None = option("output folder (default: export/ in the run folder)", value="DIR")
    normalize: bool = option("include normalization: the model takes RGB, uint8", False)
    argmax: bool = option("include argmax: the model returns classes, not logits", False)
    overwrite: bool = option("replace an earlier export", False)


def main(argv: Sequence[str]) -> int:
    """Export, and print the agreement with PyTorch."""
    if (parsed := parse(argv, Arguments, known=top_level_names)) is None:
        return 0
    arguments, overrides = parsed
    from semiseg.config.settings import stored_settings
    from semiseg.export.card import FILE, write_card
    from semiseg.export.write import FORMATS, export, facts_of
    from semiseg.runs.checkpoint import load_checkpoint
    from semiseg.training.predictor import load_predictor

    path = arguments.file()
    output = arguments.output or (arguments.run and arguments.run / "export")
    if output is None:
        raise InputError("output=DIR is missing: it is needed with checkpoint=")
    names = (FORMATS[arguments.format].FILE, FILE)
    if not arguments.overwrite and (output / names[0]).exists():
        raise InputError(f"{output / names[0]} already exists: choose another output, or overwrite=true")
    if not arguments.overwrite and (output / FILE).exists() and not any(output.glob("run_*.py")):
        raise InputError(f"{output / FILE} already exists and is not from an export: choose another output")
    checkpoint = load_checkpoint(path)
    settings = stored_settings(checkpoint["semiseg"]["config"], overrides)
    found = export(
        load_predictor(settings, checkpoint, path, arguments.network, "cpu"),
        settings,
        checkpoint,
        path,
        arguments.format,
        output,
        normalize=arguments.normalize,
        argmax=arguments.argmax,
    )
    write_card(output, path, facts_of(settings, checkpoint, path), settings.crop_size)
    print(summary(found, output))
    return 0


def summary(found: Exported, output: Path) -> str:
    """Human-readable summary of the export."""
    facts, parity = found["facts"], found["parity"]
    free = f"dynamic {', '.join(facts['free_axes'])}" if facts["free_axes"] else "all sizes fixed"
    size = "" if facts["size"] is None else f", {facts['size'][0]} x {facts['size'][1]} pixels (height x width)"
    opset = f", opset {facts['opset']}" if "opset" in facts else ""
    largest = parity["largest_logit_difference"]
    logits = "" if largest is None else f", largest logit difference {largest:.2g}"
    return (
        f"{output / found['file']}: {found['format']}{opset}, {free}{size}\n"
        f"  agrees with PyTorch on {100 * parity['equal_pixels']:.4f} % of the pixels{logits}"
        f" ({parity['images']} images, {parity['source']})\n"
        f"  card      {output / 'README.md'}\n"
        f"  program   python run_{found['format']}.py photo.jpg mask.png"
    )
