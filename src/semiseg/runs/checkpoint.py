"""Metadata of checkpoints and compatibility checks. Loading executes no code from the file."""

from __future__ import annotations

import logging
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, NotRequired

import torch
from pydantic import ConfigDict, Field, TypeAdapter, ValidationError
from torch import Tensor
from typing_extensions import TypedDict

from semiseg.config.defaults import with_defaults
from semiseg.config.trust import check_size, check_trusted
from semiseg.data.datasets.base import SegmentationDataset
from semiseg.data.readers.listing import file_is_there
from semiseg.errors import InputError, suggest
from semiseg.runs.folder import RunFolder
from semiseg.runs.migrate import migrate

log = logging.getLogger(__name__)

Byte = Annotated[int, Field(ge=0, le=255)]
PerChannel = Annotated[list[float], Field(min_length=1, max_length=64)]


class Facts(TypedDict):
    """Metadata in a checkpoint besides its weights: enough to predict from the file alone. Other keys may exist."""

    config: dict[str, Any]
    classes: Annotated[list[str], Field(min_length=1, max_length=256)]
    palette: list[Annotated[list[Byte], Field(min_length=3, max_length=3)]]
    mean: PerChannel
    std: PerChannel
    value_range: NotRequired[Annotated[list[float], Field(min_length=2, max_length=2)] | None]
    data: NotRequired[dict[str, Any]]


class Saved(TypedDict):
    """The parts of a checkpoint used here; Lightning and the callbacks read the rest when a run resumes."""

    __pydantic_config__ = ConfigDict(arbitrary_types_allowed=True)  # type: ignore[misc]

    state_dict: dict[str, Tensor]
    global_step: Annotated[int, Field(ge=0)]
    semiseg: Facts


SAVED = TypeAdapter(Saved)


def describe(config: Mapping[str, Any], dataset: SegmentationDataset, data: Mapping[str, Any]) -> dict[str, Any]:
    """Plain metadata that identifies a run and suffices to rebuild its network; stored under "semiseg".

    Args:
        config: the composed configuration, not resolved.
        dataset: provides the classes and the normalization.
        data: the fingerprint of the data.
    """
    return {
        "config": dict(config),
        "classes": list(dataset.classes),
        "palette": [list(map(int, color)) for color in dataset.palette],
        "mean": list(map(float, dataset.mean)),
        "std": list(map(float, dataset.std)),
        "value_range": None if dataset.value_range is None else [float(v) for v in dataset.value_range],
        "data": dict(data),
    }


def load_checkpoint(path: str | Path) -> dict[str, Any]:
    """Load a checkpoint on the CPU. It runs no code from the file, which may name only semiseg's constructors.

    The file is a ZIP archive with a checksum for every entry; all are verified, which ``torch.load`` does not do.

    Raises:
        InputError: the file is missing, damaged, or not a checkpoint of a run.
    """
    path = Path(path)
    if not file_is_there(path):
        raise InputError(f"checkpoint {path} does not exist; a run stores its checkpoints in checkpoints/")
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
        checkpoint: Any = None if damaged else torch.load(path, map_location="cpu", weights_only=True)
    except Exception as e:
        raise InputError(f"checkpoint {path} cannot be read ({type(e).__name__}); is the file complete?") from e
    if damaged:
        raise InputError(f"checkpoint {path} cannot be read (wrong checksum of {damaged}); the file is damaged")
    info = checkpoint.get("semiseg") if isinstance(checkpoint, dict) else None
    if not isinstance(info, dict):
        raise InputError(f"checkpoint {path} was not written by semiseg train")
    check_size(info, f"checkpoint {path}")
    if "config" in info:
        info["config"] = migrate(info["config"])
    check_trusted(info, f"checkpoint {path}")
    try:
        SAVED.validate_python(checkpoint, strict=True)
    except ValidationError as e:
        first = e.errors(include_url=False, include_input=False)[0]
        place = ".".join(map(str, first["loc"]))
        told = f"lacks {place}" if first["type"] == "missing" else f"has a wrong {place} ({first['msg']})"
        raise InputError(f"checkpoint {path} {told}: it is not a checkpoint of a run") from e
    for key in ("method", "model"):
        node = info["config"].get(key)
        if not (isinstance(node, dict) and isinstance(node.get("_target_"), str)):
            raise InputError(f"checkpoint {path} lacks semiseg.config.{key}: it is not a checkpoint of a run")
    if len(info["palette"]) != len(info["classes"]):
        raise InputError(f"checkpoint {path} has {len(info['classes'])} classes and {len(info['palette'])} colors")
    data = info["config"].get("data")
    channels = data.get("channels", 3) if isinstance(data, dict) else 3
    if not len(info["mean"]) == len(info["std"]) == channels:
        counts = f"{len(info['mean'])} means and {len(info['std'])} deviations"
        raise InputError(f"checkpoint {path} has {counts} for images of {channels} channels")
    found: dict[str, Any] = checkpoint
    return found


def newest_checkpoint(folder: RunFolder) -> tuple[Path, dict[str, Any]] | None:
    """The checkpoint to resume from: the last one, or the previous one if the last is damaged.

    Raises:
        InputError: there are checkpoints, but none can be read.
    """
    unreadable: InputError | None = None
    for path in (folder.checkpoint("last"), folder.checkpoint("previous")):
        if path.exists():
            try:
                checkpoint = load_checkpoint(path)
            except InputError as e:
                log.warning("%s", e)
                unreadable = e
                continue
            if unreadable:
                log.warning("resuming from %s instead, at step %d", path, checkpoint["global_step"])
            return path, checkpoint
    if unreadable:
        raise InputError(f"{unreadable}; overwrite=true restarts the run")
    return None


def check_fits(checkpoint: Mapping[str, Any], config: Mapping[str, Any], classes: tuple[str, ...], path: Path) -> None:
    """Compare method, model and classes.

    Args:
        checkpoint: the loaded checkpoint.
        config: the configuration to use it with, as plain containers, not resolved.
        classes: class names of the data, in the order of the label values.
        path: path of the checkpoint, for the message.

    Raises:
        InputError: names the first difference.
    """
    info = checkpoint["semiseg"]
    theirs = info["config"]
    if (a := theirs["method"]["_target_"]) != (b := config["method"]["_target_"]):
        raise InputError(f"checkpoint {path} was trained with method {_short(a)}, the configuration has {_short(b)}")
    _check_classes(tuple(info["classes"]), classes, path)
    a, b = (
        {k: v for k, v in with_defaults(side)["model"].items() if k not in ("weights", "num_classes")}
        for side in (theirs, config)
    )
    if a != b:
        key = next(k for k in dict.fromkeys([*a, *b]) if a.get(k) != b.get(k))
        raise InputError(
            f"checkpoint {path} has another model: model.{key} is {a.get(key)} there and {b.get(key)} here"
        )


def check_weights(checkpoint: Mapping[str, Any], expected: Mapping[str, Tensor], path: Path) -> None:
    """Compare names and shapes of the weights with those of the method built from the configuration.

    Raises:
        InputError: names the first difference.
    """
    theirs = checkpoint["state_dict"]
    told = ""
    if odd := sorted(theirs.keys() ^ expected.keys()):
        told = f"{odd[0]} is {'not expected' if odd[0] in theirs else 'missing'}"
    elif wrong := [name for name in expected if theirs[name].shape != expected[name].shape]:
        told = f"{wrong[0]} is {list(theirs[wrong[0]].shape)} instead of {list(expected[wrong[0]].shape)}"
    if told:
        raise InputError(f"checkpoint {path} does not contain the weights that its configuration describes: {told}")


def _check_classes(theirs: tuple[str, ...], ours: tuple[str, ...], path: Path) -> None:
    """Check for the same classes in the same order: the channel index alone identifies a class."""
    if theirs == ours:
        return
    if len(theirs) != len(ours):
        raise InputError(f"checkpoint {path} has {len(theirs)} classes, the data set has {len(ours)}")
    place = next(i for i, (a, b) in enumerate(zip(theirs, ours)) if a != b)
    found = f"class {place} is '{theirs[place]}' in the checkpoint and '{ours[place]}' in the data set"
    if sorted(theirs) == sorted(ours):
        raise InputError(
            f"checkpoint {path} has its classes in another order: {found}; reorder the class file and the masks of the "
            "data set to match the checkpoint"
        )
    raise InputError(f"checkpoint {path} has other classes: {found}; {suggest(ours[place], theirs)}")


def _short(target: str) -> str:
    return target.rsplit(".", 1)[-1]
