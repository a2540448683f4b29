"""``semiseg next``: which images to label next, with masks to correct."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from semiseg.commands.args import ModelArguments, option, parse
from semiseg.config.check import top_level_names
from semiseg.errors import InputError


@dataclass(frozen=True, kw_only=True)
class Arguments(ModelArguments):
    """Ranks the unlabeled images of a run; writes photos, masks to correct, ranking.csv and sheet.html to a new folder.

    score=combined multiplies uncertainty with the distance to the labeled images. Correct the masks in labelme, or
    in any tool that reads palette PNG, then: semiseg data import OUTPUT output=DIR blank=ignore
    """

    usage: ClassVar = "semiseg next run=DIR | checkpoint=FILE output=DIR [count=20] [key=value ...]"

    output: Path | None = option("a new folder", value="DIR")
    count: Annotated[int, Field(ge=1)] = option("how many images", 20)
    score: Literal["combined", "entropy", "margin", "disagreement", "views", "diversity", "random"] = option(
        "combined, entropy, margin, disagreement (student and teacher), views (mirrored), diversity, random", "combined"
    )
    uncertainty: Literal["entropy", "margin", "disagreement", "views"] = option(
        "the uncertainty in combined: views (mirrored), entropy, margin, disagreement", "views"
    )
    format: Literal["labelme", "png"] = option("format of the masks: labelme (JSON) or png (palette)", "labelme")
    threshold: Annotated[float, Field(ge=0, le=1)] = option("pixels with a lower class probability are left blank", 0.8)
    masked: bool = option("also rank images that have a mask: benchmark data", False)
    seed: Annotated[int, Field(ge=0)] = option("seed of score=random", 0)


def main(argv: Sequence[str]) -> int:
    """Rank the images, and write the files for the annotator."""
    if (parsed := parse(argv, Arguments, known=top_level_names)) is None:
        return 0
    arguments, overrides = parsed
    if (output := arguments.output) is None:
        raise InputError("output=DIR is missing: a new folder for photos and masks; see semiseg next --help")
    from semiseg.config.settings import stored_settings
    from semiseg.labeling.next_images import next_images, prefill
    from semiseg.labeling.write import check_output, write_batch
    from semiseg.runs.checkpoint import load_checkpoint

    check_output(output)
    path = arguments.file()
    checkpoint = load_checkpoint(path)
    found = next_images(
        stored_settings(checkpoint["semiseg"]["config"], overrides),
        checkpoint,
        path,
        count=arguments.count,
        score=arguments.score,
        uncertainty=arguments.uncertainty,
        threshold=arguments.threshold,
        masked=arguments.masked,
        seed=arguments.seed,
        progress=True,
    )
    root = getattr(found.data.dataset, "root", None)
    if root is not None and Path(root).resolve() in output.resolve().parents:
        raise InputError(f"output={output}: inside the data folder {root}, which is only read; choose another folder")
    network = found.predictor
    by = f"{arguments.score} ({arguments.uncertainty})" if arguments.score == "combined" else arguments.score
    about = f"{len(found.choices)} of {found.candidates} unlabeled images, by {by}; model {path}."
    write_batch(
        output,
        found.choices,
        found.data.dataset,
        network.classes,
        network.palette,
        prefill(network, arguments.threshold),
        format=arguments.format,
        about=about,
    )
    for choice in found.choices:
        print(f"{choice.rank:3}. {choice.image_id}: {choice.why}")
    print(about)
    if found.left_out:
        print(f"{found.left_out} images without a label in this run have a mask on the disk: left out")
    print(f"look at   {output / 'sheet.html'}\ncorrect   {output / 'images'}", end="")
    print(f" and {output / 'masks'}" if arguments.format == "png" else " with labelme")
    print(f"then      semiseg data import {shlex.quote(str(output))} output=DIR blank=ignore")
    return 0
