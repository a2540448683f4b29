"""``semiseg predict``: segment the user's own images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar

from pydantic import Field

from semiseg.commands.args import ModelArguments, option, parse
from semiseg.config.check import top_level_names
from semiseg.data.readers.limits import MAX_PIXELS
from semiseg.errors import InputError


@dataclass(frozen=True, kw_only=True)
class Arguments(ModelArguments):
    """Writes an index PNG with palette and a color overlay for each image, in the folder structure of the source.

    Repeated calls add new images and keep finished ones. eval=NAME (whole, sliding, resize, ...) overrides the
    inference mode of the run; an image that is too large for memory is predicted in sliding windows.
    data.range=[low,high] overrides the value range of images with more than 8 bits.
    """

    usage: ClassVar = "semiseg predict run=DIR | checkpoint=FILE source=FILE-OR-DIR output=DIR [key=value ...]"

    source: Path | None = option(
        "an image, a folder of images (to any depth), a video, or numbered images: frame_%04d.png", value="FILE-OR-DIR"
    )
    output: Path | None = option("output folder", value="DIR")
    network: str | None = option("teacher or student (default: the one the method reports)", value="NAME")
    confidence: bool = option("also write the probability of the predicted class, PNG, 0..255", False)
    probabilities: bool = option("also write class probabilities, .npz", False)
    threshold: Annotated[float, Field(ge=0, le=1)] | None = option(
        "write pixels with a lower class probability as 255, ignored", value="SHARE"
    )
    unlabeled_only: bool = option("skip images that have a mask in the data set of the run", False)
    batch: Annotated[int, Field(ge=1)] = option("images of equal size per forward pass", 4)
    fps: Annotated[float, Field(gt=0, le=1000)] | None = option(
        "frames per second of the overlay video (default: as the source)", value="N"
    )
    overwrite: bool = option("replace existing results", False)
    max_pixels: Annotated[int, Field(ge=1)] = option("skip images with more pixels", MAX_PIXELS)


def main(argv: Sequence[str]) -> int:
    """Predict; returns 1 if an image could not be predicted."""
    if (parsed := parse(argv, Arguments, known=top_level_names)) is None:
        return 0
    arguments, overrides = parsed
    for key in ("source", "output"):
        if getattr(arguments, key) is None:
            raise InputError(f"{key}= is missing; see semiseg predict --help")
    source, output = arguments.source, arguments.output
    assert source is not None and output is not None
    from semiseg.config.settings import stored_settings
    from semiseg.runs.checkpoint import load_checkpoint
    from semiseg.runs.files import file_sha256
    from semiseg.training.predict import labeled_files, predict
    from semiseg.training.predictor import load_predictor
    from semiseg.training.video import is_video, predict_video

    video = is_video(source)
    for key, given in (("probabilities", arguments.probabilities), ("unlabeled_only", arguments.unlabeled_only)):
        if video and given:
            raise InputError(f"{key}=true is not for videos: leave it out")
    if arguments.fps is not None and not video:
        raise InputError(f"fps={arguments.fps:g} is for videos and numbered images; source={source} is neither")
    path = arguments.file()
    checkpoint = load_checkpoint(path)
    settings = stored_settings(checkpoint["semiseg"]["config"], overrides)
    made_with = {"checkpoint_sha256": file_sha256(path), "network": arguments.network, "eval": settings.evaluation}
    predictor = load_predictor(settings, checkpoint, path, arguments.network)
    if video:
        result = predict_video(
            predictor,
            source,
            output,
            made_with=made_with,
            confidence=arguments.confidence,
            threshold=arguments.threshold,
            batch=arguments.batch,
            fps=arguments.fps,
            overwrite=arguments.overwrite,
            max_pixels=arguments.max_pixels,
        )
        print(
            f"{output} was complete already" if result.kept else f"{len(result.written)} frames segmented into {output}"
        )
        return 0
    result = predict(
        predictor,
        source,
        output,
        made_with=made_with,
        without=labeled_files(settings) if arguments.unlabeled_only else (),
        probabilities=arguments.probabilities,
        confidence=arguments.confidence,
        threshold=arguments.threshold,
        batch=arguments.batch,
        overwrite=arguments.overwrite,
        max_pixels=arguments.max_pixels,
    )
    for _, reason in result.skipped:
        print(f"skipped {reason}")
    kept = f", {result.kept} already existed" if result.kept else ""
    images = "image" if len(result.written) == 1 else "images"
    print(f"{len(result.written)} {images} segmented into {output}, {len(result.skipped)} skipped{kept}")
    return result.exit_code
