"""Which unlabeled images to label next, and why."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, cast

import torch
from torch import Tensor

from semiseg.labeling.scores import Picked, k_center
from semiseg.labeling.signals import Signals, Uncertainty

Score = Literal["combined", "entropy", "margin", "disagreement", "views", "diversity", "random"]

COMPARING = ("combined", "diversity")
"""Scores that compare features."""
DIGITS = 9
"""Digits that are compared: sums over pixels differ in the last ones between machines."""


@dataclass(frozen=True)
class Choice:
    """One image to label.

    Attributes:
        rank: from 1.
        image_id: the image.
        score: what it was chosen by; higher is more urgent.
        uncertainty: measure -> value in [0, 1].
        distance: of its features to the nearest labeled or earlier chosen image, in [0, 2]; None where no distance was
            taken.
        nearest: that image.
        unsure: share of its pixels that are unsure.
        why: a sentence.
    """

    rank: int
    image_id: str
    score: float
    uncertainty: dict[str, float]
    distance: float | None
    nearest: str | None
    unsure: float
    why: str


def measures_for(score: Score, uncertainty: Uncertainty) -> tuple[Uncertainty, ...]:
    """The measures of uncertainty that a score takes; entropy is shown beside every other."""
    asked = uncertainty if score in ("combined", "diversity", "random") else cast(Uncertainty, score)
    return ("entropy", asked) if asked != "entropy" else ("entropy",)


def choose(
    found: Signals,
    classes: Sequence[str],
    *,
    features: Tensor | None = None,
    labeled: Mapping[str, Tensor] | None = None,
    count: int,
    score: Score = "combined",
    uncertainty: Uncertainty = "views",
    seed: int = 0,
) -> list[Choice]:
    """Rank unlabeled images. The same signals give the same ranking.

    combined: the product of uncertainty and distance to the nearest labeled or already chosen image, one choice after
    the other. diversity: the distance alone. entropy, margin, disagreement, views: the uncertainty alone; of equals the
    first by id.

    Args:
        found: about the N unlabeled images, with the measures of ``measures_for``.
        classes: names of the classes.
        features: (N, D) of these images, for combined and diversity.
        labeled: id -> (D,) features of the labeled images: the first centers.
        count: how many to choose.
        score: by what.
        uncertainty: the measure within ``combined``.
        seed: of ``random``.
    """
    count = min(count, len(found.ids))
    doubt = {name: torch.round(values, decimals=DIGITS) for name, values in found.uncertainty.items()}
    if score in COMPARING:
        assert features is not None, f"{score} compares features"
        known = torch.stack(list(labeled.values())) if labeled else features[:0]
        candidates, centers = (torch.round(f, decimals=DIGITS) for f in (features, known))
        picked = k_center(candidates, centers, count, doubt[uncertainty] if score == "combined" else None)
    else:
        if score == "random":
            values = torch.rand(len(found.ids), generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        else:
            values = doubt[score]
        order = values.sort(descending=True, stable=True).indices[:count]
        nothing = torch.full((count,), math.inf, dtype=torch.float64)
        picked = Picked(order, nothing, torch.full((count,), -1), values[order])
    names = [*(labeled or {}), *(found.ids[i] for i in picked.chosen.tolist())]
    choices = []
    for rank, (i, distance, near, gain) in enumerate(zip(*(p.tolist() for p in picked)), 1):
        close = (distance, names[near]) if near >= 0 else None
        measured = {name: float(v[i]) for name, v in doubt.items()}
        why = _why(score, uncertainty, doubt, i, close, found.unsure[i], classes)
        near_by, neighbor = close or (None, None)
        choices.append(Choice(rank, found.ids[i], gain, measured, near_by, neighbor, float(found.unsure[i].sum()), why))
    return choices


def _why(
    score: Score,
    uncertainty: Uncertainty,
    doubt: dict[str, Tensor],
    i: int,
    close: tuple[float, str] | None,
    unsure: Tensor,
    classes: Sequence[str],
) -> str:
    """The reason of a choice in words."""
    said = []
    if score == "random":
        return "drawn at random"
    if score != "diversity":
        name = uncertainty if score == "combined" else score
        values = doubt[name]
        lower = 100 * float((values < values[i]).double().mean())
        said.append(f"{MEASURES[name]} {values[i]:.3f}, more than {lower:.0f} % of the unlabeled images")
    if score in COMPARING:
        said.append(
            f"distance {close[0]:.3f} from the most similar labeled or chosen image ({close[1]})"
            if close
            else "the first choice: nothing is labeled yet"
        )
    if float(unsure.sum()) > 0:
        most = int(unsure.argmax())
        said.append(f"unsure about {100 * float(unsure.sum()):.0f} % of its pixels, most of them {classes[most]}")
    return "; ".join(said)


MEASURES = {
    "entropy": "entropy",
    "margin": "closeness of the two best classes",
    "disagreement": "disagreement of student and teacher",
    "views": "disagreement with the mirrored image",
}
