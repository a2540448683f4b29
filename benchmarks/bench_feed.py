"""CPU cores needed to feed each recipe: time to load the images of a step, and the published time of a step."""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median

from bare import recipes
from bench_readers import CASES, Case, write_files
from table import Row
from timing import in_turns

from semiseg.config import compose_config
from semiseg.config.settings import Settings, read_settings
from semiseg.data.batch import ViewSpec
from semiseg.data.loading.samples import Images, TrainSamples
from semiseg.data.loading.sampling import Draw, Stream
from semiseg.training.assemble import assemble_method

FILES = {"voc": "voc", "cityscapes": "cityscapes", "coco": "coco, ready masks", "ade20k": "ade20k"}
"""Data set of a recipe -> the case of ``bench_readers`` that writes its files."""

STEP_SECONDS = {
    "unimatch/voc": 0.70, "unimatch/cityscapes": 0.63, "unimatch/coco": 0.42,
    "unimatch_v2/voc": 1.16, "unimatch_v2/ade20k": 0.65, "unimatch_v2/cityscapes": 2.19, "unimatch_v2/coco": 1.20,
    "corrmatch/voc": 1.03, "corrmatch/cityscapes": 2.2,
}  # fmt: skip
"""Time of a step in the released code. UniMatch and UniMatch V2: published logs, four GPUs of unknown model. CorrMatch:
total times given by its authors (Pascal, 92 labels: 30 h on two RTX 3090; Cityscapes, 1/8: 48 h on four A40)."""


def measure(*, quick: bool) -> list[Row]:
    """One row per recipe: CPU seconds per step, for files of the official size."""
    return [_measure(name, rounds=1 if quick else 5) for name in (["unimatch/voc"] if quick else recipes())]


def _measure(recipe: str, rounds: int) -> Row:
    case = next(case for case in CASES if case.name == FILES[recipe.split("/")[1]])
    with tempfile.TemporaryDirectory() as place:
        root = Path(place, "data")
        write_files(case, root)
        settings = _settings(recipe, root)
        classes = [str(i) for i in range(21)]
        spec = assemble_method(settings, classes, max_steps=100).view_spec or ViewSpec()
        sample = partial(_samples, settings, spec, case, root)
        works = {"plain": sample(cache=False), "cached": sample(cache=str(Path(place, "cache")))}
        seconds = {name: median(turns) for name, turns in in_turns(works, rounds).items()}
    kinds = 2 if spec.partner == "flip" else 3  # labeled, unlabeled, and a second unlabeled batch for CutMix
    batch = settings.batch
    images = batch.labeled + (kinds - 1) * batch.unlabeled
    step = seconds["plain"] * images / kinds
    rates = {name: kinds / s for name, s in seconds.items()}
    logged = STEP_SECONDS.get(recipe)
    cores = "" if logged is None else f", {step / logged:.1f} cores"
    return Row(
        f"feed {recipe}, {images} images a step",
        step,
        "no published step time" if logged is None else f"published step time {logged:.2f} s",
        unit="s",
        detail=f"{rates['plain']:.0f} images/s per core ({rates['cached']:.0f} with loader.cache=FOLDER){cores}",
    )


def _settings(recipe: str, root: Path) -> Settings:
    """Settings of the recipe with a tiny network: it builds faster, and reading images does not depend on it."""
    weights = ["model.weights=none"] if "weights" in compose_config([f"experiment={recipe}"]).model else []
    settings = read_settings(compose_config([f"experiment={recipe}", f"data.root={root}", *weights]))
    tiny = read_settings(compose_config(["model=tiny"])).make.network
    return dataclasses.replace(settings, make=dataclasses.replace(settings.make, network=tiny))


def _samples(settings: Settings, spec: ViewSpec, case: Case, root: Path, cache: bool | str) -> Callable[[], None]:
    """A labeled image, an unlabeled one, and its partner where there is one."""
    labeled, unlabeled = case.ids
    images = Images(case.reader(root), cache=cache)
    samples = TrainSamples(images, [labeled], [unlabeled], settings.make.transforms(), spec, 0, False)
    streams = [Stream.LABELED, Stream.UNLABELED, *([Stream.PARTNER] if spec.partner != "flip" else [])]

    def work() -> None:
        for stream in streams:
            samples[Draw(stream, 0, 0)]

    return work
