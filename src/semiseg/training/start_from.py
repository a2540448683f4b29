"""``init=``: networks that start from an earlier model. Only weights are copied: no optimizer, step or queue."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from semiseg.config.settings import Settings, stored_settings
from semiseg.data.datasets.base import SegmentationDataset
from semiseg.data.readers.listing import several
from semiseg.errors import InputError
from semiseg.methods.base import Parts, SemiMethod
from semiseg.models.segmentor import Segmentor
from semiseg.runs.checkpoint import check_weights, load_checkpoint
from semiseg.runs.source import source_file

log = logging.getLogger(__name__)

Weights = Mapping[str, Tensor]
PARTS = ("encoder.", "decoder.", "classifier.")
"""The parts of a network that are copied; modules added by a method are newly initialized."""


@dataclass(frozen=True)
class Source:
    """An earlier model.

    Attributes:
        name: the value of ``init=``.
        path: the checkpoint.
        step: optimizer steps that it was trained for.
        classes: its classes, in the order of its channels.
        facts: the metadata of the checkpoint.
        method: constructor of the method that trained it.
        networks: weights of the reported network, then those of its other students.
    """

    name: str
    path: Path
    step: int
    classes: tuple[str, ...]
    facts: Mapping[str, Any]
    method: str
    networks: tuple[Weights, ...]

    def follow(self, dataset: SegmentationDataset) -> None:
        """Normalize images, and map values of more than 8 bits, as in the training of the earlier model."""
        mean, std = (tuple(self.facts[key]) for key in ("mean", "std"))
        if (mean, std) != (tuple(dataset.mean), tuple(dataset.std)):
            log.info("images are normalized as for init=%s: mean %s, std %s", self.name, list(mean), list(std))
        dataset.mean, dataset.std = mean, std
        dataset.adopt_range(self.facts.get("value_range"))

    def start(
        self,
        make: Callable[[Parts], SemiMethod],
        parts: Parts,
        config: Mapping[str, Any],
        bare: Callable[[], Segmentor],
    ) -> SemiMethod:
        """A method whose networks all start from the reported network of the earlier model.

        Two students that teach each other must differ, or they would stay identical: the second one starts from the
        second student of the earlier model if the method is the same, else from new weights.

        Args:
            make: builds the method.
            parts: as without ``init``.
            config: of the run.
            bare: makes the network of ``parts`` without reading any weights for it.
        """
        fill = partial(self.fill, classes=parts.classes, config=config)
        method = make(dataclasses.replace(parts, network=lambda: fill(bare(), self.networks[0])))
        students = [network for network in method.trained() if isinstance(network, Segmentor)]
        theirs = self.networks[1:] if config["method"]["_target_"] == self.method else ()
        for student, weights in zip(students[1:], [*theirs, *[None] * len(students)]):
            fresh = parts.network()
            student.load_state_dict((fresh if weights is None else fill(fresh, weights)).state_dict())
        for pair in method.teacher_pairs() if students[1:] else ():
            pair.teacher.load_state_dict(pair.student.state_dict())
        return method

    @torch.no_grad()
    def fill(
        self, network: Segmentor, weights: Weights, classes: Sequence[str], config: Mapping[str, Any]
    ) -> Segmentor:
        """Overwrite a new network in place; channels of classes that the earlier model lacks stay new.

        Raises:
            InputError: the architecture differs.
        """
        own = network.state_dict()
        given = {name: tensor for name, tensor in weights.items() if name.startswith(PARTS)}
        odd = sorted(own.keys() ^ given.keys())
        odd += [n for n in own.keys() & given.keys() if _inner(n, own[n]) != _inner(n, given[n])]
        if odd:
            raise InputError(f"init={self.name} has another architecture: {self._difference(config, odd[0])}")
        pairs = [(i, self.classes.index(c)) for i, c in enumerate(classes) if c in self.classes]
        for name, tensor in own.items():
            if name.startswith("classifier."):
                for ours, theirs in pairs:
                    tensor[ours] = given[name][theirs]
            else:
                tensor.copy_(given[name])
        return network

    def describe(self, classes: Sequence[str]) -> str:
        """Which classes are taken over, new or left out, in one line."""
        kept = [c for c in classes if c in self.classes]
        new = [c for c in classes if c not in self.classes]
        gone = [c for c in self.classes if c not in classes]
        line = f"{self.name}, step {self.step}: {len(kept)} of {len(classes)} classes by name ({several(kept, 8)})"
        line += f"; new: {several(new, 8)}" if new else ""
        return line + (f"; left out: {several(gone, 8)}" if gone else "")

    def doubt(self, data: Mapping[str, Any]) -> list[str]:
        """A warning if this run validates on other images of the same folder than the earlier model.

        Args:
            data: record of the images of this run, see ``RunData.record``.
        """
        there, here = (record.get("parts", {}).get("val", {}) for record in (self.facts.get("data") or {}, data))
        same_folder = data.get("root") is not None and (self.facts.get("data") or {}).get("root") == data["root"]
        if not same_folder or there.get("ids") == here["ids"]:
            return []
        return [
            f"init={self.name} was validated on other images of this folder ({there.get('count')} there, "
            f"{here['count']} here): it may have been trained on some of these, which makes scores too high; list the "
            "validation images in val.txt to keep them"
        ]

    def _difference(self, config: Mapping[str, Any], tensor: str) -> str:
        theirs, model = self.facts["config"]["model"], config["model"]
        passing = ("weights", "num_classes", "dropout")
        keys = [k for k in dict.fromkeys([*theirs, *model]) if theirs.get(k) != model.get(k) and k not in passing]
        there, here = (side["data"].get("channels", 3) for side in (self.facts["config"], config))
        if there != here:
            return f"data.channels is {there} there and {here} here"
        if not keys:
            return f"{tensor} does not fit"
        key = "_target_" if "_target_" in keys else keys[0]
        a, b = (
            str(node.get(key)).rpartition(".")[2] if key == "_target_" else node.get(key) for node in (theirs, model)
        )
        return f"model{'' if key == '_target_' else f'.{key}'} is {a} there and {b} here"


def read_source(name: str, build: Callable[[Settings, Sequence[str]], SemiMethod]) -> Source:
    """Load the model that a run starts from, without running code from the file.

    Args:
        name: a run folder or a checkpoint, as typed.
        build: (settings, classes) -> a method with its networks.

    Raises:
        InputError: the checkpoint does not exist, is damaged, or is not from a run.
    """
    path = source_file(name)
    checkpoint = load_checkpoint(path)
    facts = checkpoint["semiseg"]
    method = build(stored_settings(facts["config"]), tuple(facts["classes"]))
    check_weights(checkpoint, method.state_dict(), path)
    method.load_state_dict(checkpoint["state_dict"])
    reported = list(method.evaluated().values())[-1]
    others = [n for n in method.trained()[1:] if isinstance(n, Segmentor)]
    return Source(
        name=name,
        path=path,
        step=checkpoint["global_step"],
        classes=tuple(facts["classes"]),
        facts=facts,
        method=facts["config"]["method"]["_target_"],
        networks=tuple(network.state_dict() for network in (reported, *others)),
    )


def _inner(name: str, tensor: Tensor) -> torch.Size:
    """The shape that must match: for the classifier, everything but the number of classes."""
    return tensor.shape[1:] if name.startswith("classifier.") else tensor.shape
