"""Class weights (``loss.class_weights``) and class balancing (``data.balance``), computed from the labeled masks."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import torch

from semiseg.data.checking.start import pixels_of
from semiseg.data.loading.balance import ClassBalance
from semiseg.data.readers.listing import several
from semiseg.errors import InputError
from semiseg.ops.class_weights import median_frequency
from semiseg.runs.data import RunData

Loss = Callable[..., Any]


def with_class_weights(loss: Loss, data: RunData) -> tuple[Loss, str]:
    """The supervised loss with numeric ``class_weights``, and a line that lists them; empty without weights.

    Args:
        loss: the configured loss.
        data: the data; ``balanced`` opens its labeled masks.

    Raises:
        InputError: a list of another length than the classes; a mask that cannot be read.
    """
    weights = getattr(loss, "class_weights", None)
    if weights is None:
        return loss, ""
    classes, rule = data.dataset.classes, "as given"
    if weights == "balanced":
        pixels = pixels_of(data.dataset, data.partition.labeled)[:, :-1]
        weights, rule = median_frequency(torch.from_numpy(pixels)).tolist(), "median frequency / frequency"
    check_length(weights, classes)
    named = ", ".join(f"{c} {w:.3g}" for c, w in zip(classes, weights))
    return dataclasses.replace(loss, class_weights=weights), f"class weights, {rule}: {named}"  # type: ignore[type-var]


def check_length(weights: Sequence[float], classes: Sequence[str]) -> None:
    """Check that there is one weight per class.

    Raises:
        InputError: names the classes without a weight, or the weights without a class.
    """
    if len(weights) == len(classes):
        return
    named = ", ".join(f"{c} {w:g}" for c, w in zip(classes, weights))
    left = f"no weight for {several(classes[len(weights) :], 8)}"
    if len(weights) > len(classes):
        left = f"no class for {several(weights[len(classes) :], 8)}"
    raise InputError(
        f"loss.class_weights: {len(weights)} weights for {len(classes)} classes ({named}; {left}): expected one per "
        "class, in this order"
    )


def class_balance(data: RunData, seed: int) -> tuple[ClassBalance | None, str]:
    """The sampler of labeled images by class, and a line that describes it; None and empty without ``data.balance``.

    Raises:
        InputError: a mask cannot be read.
    """
    if data.dataset.balance is None:
        return None, ""
    shows = pixels_of(data.dataset, data.partition.labeled)[:, :-1] > 0
    balance = ClassBalance(shows, seed)
    counts = sorted((int(n), c) for n, c in zip(shows.sum(0), data.dataset.classes) if n)
    rarest = ", ".join(f"{c} {n}" for n, c in counts[:5])
    return balance, f"every second labeled crop is chosen by class; images of {len(shows)} that show it: {rarest}"
