"""Builds the objects of a sweep's jobs before it starts, to find errors that only constructors detect."""

from __future__ import annotations

import dataclasses
import json
from functools import partial

import torch

from semiseg.config.settings import Settings
from semiseg.data.batch import ViewSpec
from semiseg.errors import InputError
from semiseg.models.weights import check_weights_file
from semiseg.runs.data import RunData
from semiseg.training.assemble import assemble_loaders, assemble_method, steps_of_run

BUILT_FROM = ("model", "method", "loss", "eval", "crop_size")
"""What a method is built from, without the optimizer, which sweeps vary most."""


class Rehearsal:
    """Builds method, networks and loaders without their memory and opens no image. Equal methods are built once."""

    def __init__(self) -> None:
        self._built: dict[str, ViewSpec | None] = {}

    def __call__(self, settings: Settings, data: RunData) -> None:
        """Build the objects of a run, and discard them.

        Raises:
            InputError: the settings do not fit together.
        """
        classes, steps = data.dataset.classes, steps_of_run(settings, data)
        settings.make.optim(max_steps=steps)
        known = json.dumps([[settings.resolved[key] for key in BUILT_FROM], len(classes)], sort_keys=True, default=str)
        if known not in self._built:
            self._built[known] = _view_spec(settings, classes, steps)
        if data.dataset.blank == "ignore":  # else labeled images count as unlabeled ones too, once they are opened
            loader = dataclasses.replace(settings.loader, cache=False)
            assemble_loaders(dataclasses.replace(settings, loader=loader), data, self._built[known])


def _view_spec(settings: Settings, classes: tuple[str, ...], steps: int) -> ViewSpec | None:
    if "weights" in settings.resolved["model"]:
        check_weights_file(settings.weights)
        network = partial(settings.make.network, weights="none")
        settings = dataclasses.replace(settings, make=dataclasses.replace(settings.make, network=network))
    try:
        with torch.device("meta"):
            return assemble_method(settings, classes, steps).view_spec
    except InputError:
        raise
    except Exception:  # some networks read values while they are built, and there are none
        return assemble_method(settings, classes, steps).view_spec
