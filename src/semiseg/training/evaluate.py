"""Work with a finished checkpoint: score it under a protocol, or segment a person's own images."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from omegaconf import DictConfig, OmegaConf

from semiseg.config.check import apply_overrides, check_targets
from semiseg.config.make import make
from semiseg.config.schema import check_values
from semiseg.errors import InputError, suggest
from semiseg.runs.checkpoint import check_fits, load_checkpoint
from semiseg.runs.result import iou_or_none, write_json
from semiseg.training import assemble as build
from semiseg.training.fit import quiet_lightning
from semiseg.training.predict import predict

log = logging.getLogger(__name__)


def find_checkpoint(run: str | None, checkpoint: str | None, which: str = "best") -> Path:
    """The file to work with. Raises InputError when neither or both are given, or there is none."""
    if (run is None) == (checkpoint is None):
        raise InputError("give either run=DIR or checkpoint=FILE")
    if checkpoint is not None:
        return Path(checkpoint)
    if which not in ("best", "last"):
        raise InputError(f"which={which}: allowed are best, last")
    path = Path(str(run)) / "checkpoints" / f"{which}.ckpt"
    if not path.exists():
        raise InputError(f"run={run} holds no checkpoints/{which}.ckpt; give the folder of one run")
    return path


def evaluate(cfg: DictConfig, checkpoint: dict[str, Any], path: Path) -> dict[str, Any]:
    """Score student and teacher of a checkpoint on the validation split of ``cfg``.

    Returns:
        {"checkpoint", "protocol", "split", "eval", "miou": {network: x}, "iou_per_class": {class: x}, ...}; the
        per-class scores are those of the reported network. Scores in [0, 1].
    """
    check_values(cfg)
    check_targets(cfg)
    dataset = build.build_dataset(cfg)
    check_fits(checkpoint, cfg, path)
    method = build.build_method(without_weights(cfg), dataset.classes)
    method.load_state_dict(checkpoint["state_dict"])
    partition = build.build_partition(cfg, dataset)
    datamodule = build.build_datamodule(cfg, dataset, partition, method)
    basics = build.trainer_basics(cfg) | {
        "devices": 1,
        "num_nodes": 1,
        "strategy": "auto",
        "sync_batchnorm": False,
    }
    with quiet_lightning():
        trainer = pl.Trainer(**basics, logger=False, enable_checkpointing=False)
        trainer.validate(method, datamodule=datamodule, verbose=False)
    values = {k: v.item() for k, v in trainer.callback_metrics.items()}
    prefix = "val/miou_"
    return {
        "checkpoint": str(path),
        "step": checkpoint["global_step"],
        "protocol": cfg.protocol.name,
        "split": cfg.protocol.val_split,
        "n_images": len(dataset.ids(cfg.protocol.val_split)),
        "eval": OmegaConf.to_container(cfg.eval, resolve=True),
        "miou": {k.removeprefix(prefix): iou_or_none(v) for k, v in values.items() if k.startswith(prefix)},
        "pixel_accuracy": iou_or_none(values["val/pixel_accuracy"]),
        "iou_per_class": {c: iou_or_none(values[f"val/iou/{c}"]) for c in dataset.classes},
    }


def main(
    *,
    overrides: Sequence[str] = (),
    run: str | None = None,
    checkpoint: str | None = None,
    which: str = "best",
    output: str | None = None,
) -> int:
    """``semiseg evaluate``. Returns the exit code."""
    path = find_checkpoint(run, checkpoint, which)
    loaded = load_checkpoint(path)
    cfg = apply_overrides(OmegaConf.create(loaded["semiseg"]["config"]), overrides)
    scores = evaluate(cfg, loaded, path)
    print(
        f"{path} (step {scores['step']}) on {scores['protocol']}, split {scores['split']}, {scores['n_images']} images"
    )
    width = max(len(c) for c in [*scores["iou_per_class"], "pixel accuracy"])
    for name, value in scores["iou_per_class"].items():
        print(f"  {name.ljust(width)}  {percent(value)}")
    print(f"  {'pixel accuracy'.ljust(width)}  {percent(scores['pixel_accuracy'])}")
    for name, value in scores["miou"].items():
        print(f"  {('mIoU ' + name).ljust(width)}  {percent(value)}")
    if output:
        write_json(Path(output), scores)
    return 0


def predict_main(
    *,
    overrides: Sequence[str] = (),
    checkpoint: str | None = None,
    source: str | None = None,
    output: str | None = None,
    network: str | None = None,
    probabilities: str = "false",
    batch: str = "4",
    overwrite: str = "false",
) -> int:
    """``semiseg predict``. Returns the exit code: 1 when a file could not be read."""
    for key, value in (("checkpoint", checkpoint), ("source", source), ("output", output)):
        if not value:
            raise InputError(f"{key}= is missing; see semiseg predict --help")
    if not batch.isdigit() or int(batch) < 1:
        raise InputError(f"batch={batch}: must be a positive number")
    path = Path(str(checkpoint))
    loaded = load_checkpoint(path)
    info = loaded["semiseg"]
    cfg = apply_overrides(OmegaConf.create(info["config"]), overrides)
    cfg.num_classes = len(info["classes"])
    check_fits(loaded, cfg, path)
    model = load_network(cfg, info["classes"], loaded["state_dict"], network)
    device = torch.device("cuda" if cfg.trainer.accelerator != "cpu" and torch.cuda.is_available() else "cpu")
    result = predict(
        model.to(device),
        make(cfg, "eval"),
        info["classes"],
        info["palette"],
        info["mean"],
        info["std"],
        str(source),
        str(output),
        probabilities=boolean("probabilities", probabilities),
        batch=int(batch),
        device=device,
        overwrite=boolean("overwrite", overwrite),
    )
    for _, reason in result.skipped:
        print(f"skipped {reason}")
    print(f"{len(result.written)} images segmented into {output}, {len(result.skipped)} skipped")
    return result.exit_code


def load_network(
    cfg: DictConfig, classes: Sequence[str], state: dict[str, torch.Tensor], network: str | None
) -> torch.nn.Module:
    """One network of a checkpoint, in eval mode: the one its method reports, or the one asked for."""
    method = build.build_method(without_weights(cfg), classes)
    there = method.evaluated()
    name = network or list(there)[-1]
    if name not in there:
        raise InputError(f"network={name}: {suggest(name, there)}")
    method.load_state_dict(state)
    return there[name].eval()


def without_weights(cfg: DictConfig) -> DictConfig:
    """The checkpoint brings the weights: nothing is read or fetched for the encoder."""
    if "weights" in cfg.model:
        cfg.model.weights = "none"
    return cfg


def boolean(key: str, value: str) -> bool:
    """Read true or false."""
    if value.lower() not in ("true", "false"):
        raise InputError(f"{key}={value}: allowed are true, false")
    return value.lower() == "true"


def percent(value: float | None) -> str:
    """For a person."""
    return "     -" if value is None else f"{100 * value:6.2f}"
