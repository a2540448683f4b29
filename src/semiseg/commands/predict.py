"""``semiseg predict``: segment a person's own images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar

from pydantic import Field

from semiseg.commands.args import option, parse
from semiseg.config.check import top_level_names
from semiseg.data.readers.limits import MAX_PIXELS
from semiseg.errors import InputError


@dataclass(frozen=True, kw_only=True)
class Arguments:
    """Index PNG with the palette and color overlay of each image, in the folder structure of the source.

    eval=NAME (whole, sliding, resize, ...) predicts in another mode than the run's; data.range=[low,high] reads images
    of more than 8 bits in another value range.
    """

    usage: ClassVar = "semiseg predict checkpoint=FILE source=FILE-OR-DIR output=DIR [key=value ...]"

    checkpoint: Path | None = option("a checkpoint of a run", value="FILE")
    source: Path | None = option("an image, or a folder of images (searched to any depth)", value="FILE-OR-DIR")
    output: Path | None = option("where the results go", value="DIR")
    network: str | None = option("teacher or student (default: the one the method reports)", value="NAME")
    probabilities: bool = option("also class probabilities, .npz", False)
    batch: Annotated[int, Field(ge=1)] = option("images of equal size per forward pass", 4)
    overwrite: bool = option("replace results of an earlier call", False)
    max_pixels: Annotated[int, Field(ge=1)] = option("larger images are skipped", MAX_PIXELS)


def main(argv: Sequence[str]) -> int:
    """Predict; 1 when an image could not be read."""
    if (parsed := parse(argv, Arguments, known=top_level_names)) is None:
        return 0
    arguments, overrides = parsed
    for key in ("checkpoint", "source", "output"):
        if getattr(arguments, key) is None:
            raise InputError(f"{key}= is missing; see semiseg predict --help")
    path, source, output = arguments.checkpoint, arguments.source, arguments.output
    assert path is not None and source is not None and output is not None
    import torch

    from semiseg.config.settings import stored_settings
    from semiseg.runs.checkpoint import load_checkpoint
    from semiseg.training.evaluate import load_network
    from semiseg.training.predict import predict

    checkpoint = load_checkpoint(path)
    info = checkpoint["semiseg"]
    settings = stored_settings(info["config"], overrides)
    network = load_network(settings, checkpoint, path, arguments.network)
    on_gpu = settings.trainer.accelerator != "cpu" and torch.cuda.is_available()
    device = torch.device("cuda" if on_gpu else "cpu")
    result = predict(
        network.to(device),
        settings.make.inference(),
        info["classes"],
        info["palette"],
        info["mean"],
        info["std"],
        source,
        output,
        probabilities=arguments.probabilities,
        batch=arguments.batch,
        device=device,
        overwrite=arguments.overwrite,
        value_range=value_range(settings.resolved["data"].get("range"), info.get("value_range")),
        max_pixels=arguments.max_pixels,
    )
    for _, reason in result.skipped:
        print(f"skipped {reason}")
    print(f"{len(result.written)} images segmented into {output}, {len(result.skipped)} skipped")
    return result.exit_code


def value_range(asked: Any, measured: Sequence[float] | None) -> tuple[float, float] | None:
    """Values that become 0 and 255 in images of more than 8 bits: as asked for, else as measured in training."""
    found = measured if asked in (None, "auto") else asked
    return None if found is None else (float(found[0]), float(found[1]))
