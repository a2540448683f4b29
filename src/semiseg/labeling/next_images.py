"""Which images to label next, for a finished run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from semiseg.config.settings import Settings
from semiseg.data.batch import IGNORE
from semiseg.errors import InputError
from semiseg.labeling.ranking import COMPARING, Choice, Score, choose, measures_for
from semiseg.labeling.signals import Uncertainty, encode, load_opinions, measure
from semiseg.runs.data import RunData
from semiseg.training.assemble import list_data
from semiseg.training.predictor import Predictor


@dataclass(frozen=True)
class Next:
    """What to label next.

    Attributes:
        choices: the chosen images, in order.
        candidates: how many unlabeled images were ranked.
        left_out: unlabeled images of the run that now have a mask, or had one from the start.
        data: the data of the run.
        predictor: the network used.
    """

    choices: list[Choice]
    candidates: int
    left_out: int
    data: RunData
    predictor: Predictor


def next_images(
    settings: Settings,
    checkpoint: Mapping[str, Any],
    path: Path,
    *,
    count: int,
    score: Score = "combined",
    uncertainty: Uncertainty = "views",
    threshold: float = 0.8,
    masked: bool = False,
    seed: int = 0,
    progress: bool = False,
) -> Next:
    """Rank the unlabeled images of a run. No mask is opened.

    Args:
        settings: settings of the checkpoint.
        checkpoint: the loaded checkpoint.
        path: path of the checkpoint, for messages.
        count: how many to choose.
        score: the criterion, see ``ranking.choose``.
        uncertainty: the measure within ``combined``.
        threshold: probability below which a pixel is uncertain.
        masked: also rank images that have a mask on disk.
        seed: seed of ``score=random``.
        progress: show a progress bar.

    Raises:
        InputError: nothing is left to label; the data of the run is not there; a score that the method does not have.
    """
    data = list_data(settings)
    # Normalize as in training, regardless of the encoder's initial weights: here they come from the checkpoint.
    data.dataset.adopt_range(checkpoint["semiseg"].get("value_range"))
    unlabeled = [i for i in data.partition.unlabeled if masked or not data.dataset.has_mask(i)]
    left_out = len(data.partition.unlabeled) - len(unlabeled)
    if not unlabeled:
        why = f"{left_out} unlabeled images have a mask already; masked=true ranks them too" if left_out else ""
        raise InputError(f"{data.protocol} has no image without a mask{f': {why}' if why else ''}")
    measures = measures_for(score, uncertainty)
    opinions = load_opinions(settings, checkpoint, path, both="disagreement" in measures)
    found = measure(opinions, data.dataset, unlabeled, measures, threshold=threshold, progress=progress)
    features, labeled = None, {}
    if score in COMPARING:
        ids = [*unlabeled, *data.partition.labeled]
        both = encode(opinions.network, data.dataset, ids, progress=progress)
        features, labeled = both[: len(unlabeled)], dict(zip(data.partition.labeled, both[len(unlabeled) :]))
    choices = choose(
        found,
        opinions.network.classes,
        features=features,
        labeled=labeled,
        count=count,
        score=score,
        uncertainty=uncertainty,
        seed=seed,
    )
    return Next(choices, len(unlabeled), left_out, data, opinions.network)


def prefill(predictor: Predictor, threshold: float) -> Callable[[np.ndarray], np.ndarray]:
    """(H, W, 3) uint8 -> (H, W) uint8: the class of each pixel, 255 where its probability is below ``threshold``."""

    def fill(image: np.ndarray) -> np.ndarray:
        highest, labels = predictor(image[None])[0].max(0)
        mask: np.ndarray = labels.byte().cpu().numpy()
        mask[(highest < threshold).cpu().numpy()] = IGNORE
        return mask

    return fill
