"""What a checkpoint says about itself, and whether it fits. Loading executes no code from the file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf

from semiseg.config.trust import check_trusted
from semiseg.data.datasets.base import SegmentationDataset
from semiseg.errors import InputError


def describe(cfg: DictConfig, dataset: SegmentationDataset) -> dict[str, Any]:
    """Plain facts that identify a run and rebuild its network: stored under "semiseg"."""
    return {
        "config": OmegaConf.to_container(cfg),
        "classes": list(dataset.classes),
        "palette": [list(map(int, color)) for color in dataset.palette],
        "mean": list(map(float, dataset.mean)),
        "std": list(map(float, dataset.std)),
    }


def load_checkpoint(path: str | Path) -> dict[str, Any]:
    """Load a checkpoint on the CPU. Nothing in it is run, and it may name only constructors of ours.

    Raises:
        InputError: the file is missing, unreadable, or none of ours.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"checkpoint {path} does not exist; a run keeps its own under checkpoints/")
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as e:
        raise InputError(f"checkpoint {path} cannot be read ({type(e).__name__}); is the file whole?") from e
    if not isinstance(checkpoint, dict) or "semiseg" not in checkpoint:
        raise InputError(f"checkpoint {path} was not written by semiseg train")
    check_trusted(checkpoint["semiseg"], f"checkpoint {path}")
    return checkpoint


def check_fits(checkpoint: dict[str, Any], cfg: DictConfig, path: str | Path) -> None:
    """Compare method, model and number of classes with the configuration.

    Raises:
        InputError: names the first difference.
    """
    info = checkpoint["semiseg"]
    theirs: Any = info["config"]
    ours: Any = OmegaConf.to_container(cfg)
    if (a := theirs["method"]["_target_"]) != (b := ours["method"]["_target_"]):
        raise InputError(f"checkpoint {path} is of method {_short(a)}, the configuration asks for {_short(b)}")
    if (a := len(info["classes"])) != (b := cfg.num_classes):
        raise InputError(f"checkpoint {path} has {a} classes, the data set has {b}")
    a, b = ({k: v for k, v in side["model"].items() if k not in ("weights", "num_classes")} for side in (theirs, ours))
    if a != b:
        key = next(k for k in dict.fromkeys([*a, *b]) if a.get(k) != b.get(k))
        raise InputError(
            f"checkpoint {path} is of another model: model.{key} is {a.get(key)} there and {b.get(key)} here"
        )


def _short(target: str) -> str:
    return target.rsplit(".", 1)[-1]
