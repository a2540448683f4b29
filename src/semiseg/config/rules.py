"""Rules between keys, for a configuration whose individual values are valid."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from typing import Any

from semiseg.arguments import shown
from semiseg.errors import InputError

Values = Mapping[str, Any]

FLOAT = 4
"""Bytes per number."""

IMAGE_AND_LOGITS = 5
"""Numbers per pixel that every network needs: three channels and the logits of two classes."""

PROCESS_BYTES = 300 * 2**20
"""Memory of a process after importing torch."""

LONGEST_NAME = 100

PADDED_CROP = 4
"""A crop may be so many times as long as the largest image, scaled up."""

PADDED_WINDOW = 8
"""A window may be so many times as long as an image."""


def check_settings(cfg: Values) -> None:
    """Check the rules that do not involve constructors.

    Raises:
        InputError: names the keys, their values and what is allowed.
    """
    check_name("study", cfg["study"])
    parts = cfg["protocol"]["name"].split("/")
    if len(parts) != 2:  # results are filed by both parts
        raise InputError(f"protocol.name={cfg['protocol']['name']}: expected DATA/NAME, such as voc/my_list")
    for part in parts:
        check_name("protocol.name", part)
    _folds(cfg["protocol"])
    _length(cfg)
    _batch_fits_memory(cfg)
    patience, subset = cfg["early_stop"]["patience"], cfg["val_subset"]
    if patience is not None and subset is not None:
        raise InputError(
            f"early_stop.patience={patience} with val_subset={subset}: with a subset, only the last validation "
            "counts as a result; remove one of them"
        )
    if cfg["trainer"]["compile"] and cfg["trainer"]["checkpoint_activations"]:
        raise InputError("trainer.checkpoint_activations=true does not work with trainer.compile=true: choose one")


def check_nodes(cfg: Values) -> None:
    """Check the rules on constructor arguments.

    Raises:
        InputError: names the keys, their values and what is allowed.
    """
    if "name" in cfg["data"]:
        check_name("data.name", cfg["data"]["name"])
    _channels(cfg)
    _schedule(cfg)
    _pairs(cfg["transforms"])
    _crop_fits_model(cfg)
    _data_fits_memory(cfg["data"])
    _evaluation(cfg)
    if (images := cfg["data"].get("size")) is not None:
        check_sizes(cfg, sides(images))


def check_sizes(cfg: Values, images: tuple[int, int]) -> None:
    """Crops and windows against the images: what is almost all padding is a mistake.

    Args:
        cfg: the configuration, resolved.
        images: (height, width) in pixels of the largest image.

    Raises:
        InputError: names the key, its value and the size of the images.
    """
    crop, scale = sides(cfg["crop_size"]), cfg["transforms"].get("scale", [1.0, 1.0])[1]
    longest = round(scale * max(images))
    if max(crop) > PADDED_CROP * longest:
        raise InputError(
            f"crop_size={list(crop)}: the largest image has {images[0]} x {images[1]} pixels, at most {longest} on its "
            f"long side after transforms.scale, the rest would be padding: expected at most {PADDED_CROP * longest}"
        )
    for path, node in _inferences(cfg["eval"], "eval"):
        if (window := node.get("window")) is not None and any(
            side > PADDED_WINDOW * there for side, there in zip(sides(window), images)
        ):
            raise InputError(
                f"{path}.window={window}: the images have {list(images)} pixels, expected a window of that order"
            )


def _channels(cfg: Values) -> None:
    channels = cfg["data"].get("channels", 3)
    if channels != 3 and cfg["method"]["_target_"] == "semiseg.methods.s4mim.S4MIM":
        raise InputError(f"data.channels={channels}: method=s4mim reconstructs the three channels of a color image")


def check_name(key: str, name: str) -> None:
    """Check a name that is used as a folder name.

    Raises:
        InputError: it could escape its parent folder, or is not a valid file name.
    """
    if re.search(r"[/\\\x00-\x1f\x7f]", name) or name.strip(". ") == "" or name.startswith((".", " ", "-")):
        raise InputError(
            f"{key}={name!r}: expected a name without slashes, backslashes and control characters, "
            "that does not begin with a dot, a space or a dash"
        )
    if len(os.fsencode(name)) > LONGEST_NAME:
        raise InputError(f"{key}={name[:20]}...: expected a name of at most {LONGEST_NAME} bytes")


def _folds(protocol: Values) -> None:
    folds, fold = protocol["folds"], protocol["fold"]
    if folds is None and fold is not None:
        raise InputError(f"protocol.fold={fold} needs the number of folds: set protocol.folds")
    if folds is not None and (fold is None or fold >= folds):
        raise InputError(
            f"protocol.fold={shown(fold)} with protocol.folds={folds}: expected 0 to {folds - 1}; `semiseg train "
            f"protocol.folds={folds}` alone runs them all"
        )


def _length(cfg: Values) -> None:
    if cfg["max_steps"] is None and cfg["epochs"] is None:
        raise InputError("max_steps=null and epochs=null: set one (an epoch is one pass over the unlabeled list)")


def _schedule(cfg: Values) -> None:
    optim, steps = cfg["optim"], cfg["max_steps"]
    warmup = optim.get("warmup_steps", 0)
    if steps is not None and warmup >= steps:
        raise InputError(f"optim.warmup_steps={warmup}: the run has {steps} steps, expected fewer for the warm-up")
    if "min_lr" in optim and optim["min_lr"] > optim["lr"] * min(1.0, optim.get("head_factor", 1.0)):
        raise InputError(f"optim.min_lr={optim['min_lr']}: expected at most the smallest learning rate")


def _pairs(transforms: Values) -> None:
    for key in ("scale", "blur_sigma"):
        if (pair := transforms.get(key)) and pair[0] > pair[1]:
            raise InputError(f"transforms.{key}={pair}: expected the lower bound first")


def _stride(model: Values) -> int:
    """Image pixels per pixel of the coarsest feature map."""
    if model["_target_"] == "semiseg.models.tiny":
        return 16
    return _patch(model) or model.get("output_stride") or 32


def _patch(model: Values) -> int | None:
    """The patch size of a plain vision transformer; None for other networks."""
    encoder = str(model.get("encoder", ""))
    return 14 if encoder.startswith("dinov2") else 16 if encoder.startswith("dinov3") else None


def _crop_fits_model(cfg: Values) -> None:
    stride, crop = _stride(cfg["model"]), sides(cfg["crop_size"])
    if min(crop) < stride:
        raise InputError(
            f"crop_size={list(crop)}: the coarsest map of the model has one value per {stride} pixels, expected at "
            f"least {stride} pixels a side"
        )


def _inferences(node: Values, path: str) -> Iterator[tuple[str, Values]]:
    """(dotted path, node) of a way to predict, and of the one inside it."""
    yield path, node
    if isinstance(base := node.get("base"), Mapping):
        yield from _inferences(base, f"{path}.base")


def _evaluation(cfg: Values) -> None:
    for path, node in _inferences(cfg["eval"], "eval"):
        _inference(cfg, node, path)


def _inference(cfg: Values, node: Values, path: str) -> None:
    patch = _patch(cfg["model"])
    for key in ("multiple", "size"):
        value = node.get(key)
        if patch and value is not None and any(side % patch for side in sides(value)):
            raise InputError(
                f"{path}.{key}={value}: expected multiples of {patch}, the patch of {cfg['model']['encoder']}"
            )
    window = node.get("window")
    if window is not None:
        batch = node.get("batch", 1)
        _require_memory(f"{path}.window={window}", batch * _pixels(window) * IMAGE_AND_LOGITS * FLOAT)
    if node.get("size") is not None:
        batch = cfg["loader"]["eval_batch"]
        _require_memory(f"{path}.size={node['size']}", batch * _pixels(node["size"]) * IMAGE_AND_LOGITS * FLOAT)


def _batch_fits_memory(cfg: Values) -> None:
    crop = _pixels(cfg["crop_size"]) * IMAGE_AND_LOGITS * FLOAT
    for kind in ("labeled", "unlabeled"):
        count = cfg["batch"][kind]
        _require_memory(f"batch.{kind}={count} with crop_size={list(sides(cfg['crop_size']))}", count * crop)
    devices = cfg["trainer"]["devices"]
    _require_memory(f"trainer.devices={devices}", devices * PROCESS_BYTES)
    workers = cfg["loader"]["num_workers"]
    _require_memory(f"loader.num_workers={workers}", workers * devices * PROCESS_BYTES // 10)


def _data_fits_memory(data: Values) -> None:
    """The embedded data set is generated in any number and size; other data sets are limited by what is on disk."""
    if (size := data.get("size")) is None:
        return
    image = _pixels(size) * 4  # bytes: three channels and the mask
    _require_memory(f"data.size={size}", image)
    for split in ("n_train", "n_val", "n_test"):
        count = data.get(split, 0)
        _require_memory(f"data.{split}={count}", count * (image if data.get("cache") else 200))


def _require_memory(what: str, needed: int) -> None:
    there = physical_memory()
    if needed > there:
        raise InputError(
            f"{what} needs more than {needed / 2**30:,.0f} GB of memory, this machine has {there / 2**30:.0f}"
        )


def physical_memory() -> int:
    """Physical memory of this machine in bytes."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def sides(size: Any) -> tuple[int, int]:
    """(height, width) of a size that may be a single number."""
    return (size, size) if isinstance(size, int) else (size[0], size[1])


def _pixels(size: Any) -> int:
    height, width = sides(size)
    return height * width
