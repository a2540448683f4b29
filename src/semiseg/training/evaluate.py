"""Score a finished checkpoint, student and teacher, under a protocol."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch

from semiseg.config.settings import Settings
from semiseg.data.checking.start import check_scored
from semiseg.errors import InputError, suggest
from semiseg.runs.checkpoint import check_fits, check_weights
from semiseg.runs.folder import RunFolder
from semiseg.runs.result import iou_or_none
from semiseg.training.assemble import assemble, assemble_method, list_data
from semiseg.training.callbacks.progress import Progress
from semiseg.training.trainer import quiet_lightning

log = logging.getLogger(__name__)


def find_checkpoint(run: Path | None, checkpoint: Path | None, which: str = "best") -> Path:
    """The checkpoint file to use.

    Args:
        run: a run folder.
        checkpoint: or a checkpoint file.
        which: which checkpoint of the folder, ``best`` or ``last``.

    Raises:
        InputError: neither or both are given, or the checkpoint does not exist.
    """
    if (run is None) == (checkpoint is None):
        raise InputError("give either run=DIR or checkpoint=FILE")
    if checkpoint is not None:
        return checkpoint
    assert run is not None
    path = RunFolder(run).checkpoint(which)
    if not path.exists():
        raise InputError(f"run={run} contains no checkpoints/{which}.ckpt; give the folder of one run")
    return path


def evaluate(settings: Settings, checkpoint: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """Score student and teacher of a checkpoint on the validation split of the settings.

    Args:
        settings: settings of the checkpoint, or with another protocol.
        checkpoint: the loaded checkpoint.
        path: path of the checkpoint, for messages.

    Returns:
        {"checkpoint", "protocol", "split", "eval", "miou": {network: x}, "iou_per_class": {class: x}, ...}; the
        per-class scores are those of the reported network. Scores in [0, 1].
    """
    data = list_data(settings)
    classes = tuple(data.dataset.classes)
    check_fits(checkpoint, settings.stored, classes, path)
    check_scored(data.dataset, data.val_ids)
    # Normalize as in training, regardless of the encoder's initial weights: here they come from the checkpoint.
    data.dataset.mean, data.dataset.std = (tuple(checkpoint["semiseg"][k]) for k in ("mean", "std"))
    data.dataset.adopt_range(checkpoint["semiseg"].get("value_range"))
    assembly = assemble(dataclasses.replace(settings, val_subset=None), data)
    check_weights(checkpoint, assembly.method.state_dict(), path)
    assembly.method.load_state_dict(checkpoint["state_dict"])
    check_accelerator(settings.trainer.accelerator)
    trained_on = checkpoint["semiseg"]["config"].get("trainer", {}).get("accelerator")
    if trained_on in ("gpu", "mps") and settings.trainer.accelerator == "auto" and not _there(trained_on):
        log.warning("the run was trained with trainer.accelerator=%s, which is not here: on the CPU", trained_on)
    alone = {"devices": 1, "num_nodes": 1, "strategy": "auto", "sync_batchnorm": False}
    with quiet_lightning():
        trainer = pl.Trainer(
            **{**assembly.trainer, **alone}, logger=False, enable_checkpointing=False, callbacks=[Progress()]
        )
        trainer.validate(assembly.method, datamodule=assembly.datamodule, verbose=False)
    values = {k: v.item() for k, v in trainer.callback_metrics.items()}
    prefix = "val/miou_"
    return {
        "checkpoint": str(path),
        "step": checkpoint["global_step"],
        "protocol": data.protocol,
        "data_fingerprint": data.fingerprint.digest,
        "split": settings.val_split,
        "n_images": len(data.val_ids),
        "eval": settings.evaluation,
        "miou": {k.removeprefix(prefix): iou_or_none(v) for k, v in values.items() if k.startswith(prefix)},
        "pixel_accuracy": iou_or_none(values["val/pixel_accuracy"]),
        "iou_per_class": {c: iou_or_none(values[f"val/iou/{c}"]) for c in classes},
    }


def check_accelerator(accelerator: str) -> None:
    """Make sure that a device that was asked for is there.

    Raises:
        InputError: it is not.
    """
    if not _there(accelerator):
        raise InputError(f"trainer.accelerator={accelerator}: this machine has none; leave it out, or say cpu")


def _there(accelerator: str) -> bool:
    if accelerator == "mps":
        return torch.backends.mps.is_available()
    return accelerator != "gpu" or torch.cuda.is_available()


def load_network(
    settings: Settings, checkpoint: Mapping[str, Any], path: Path, network: str | None = None
) -> torch.nn.Module:
    """One network of a checkpoint, in eval mode: the one its method reports, or the requested one.

    Raises:
        InputError: the settings describe another method or model, the network does not exist, or the weights have
            another shape.
    """
    classes = tuple(checkpoint["semiseg"]["classes"])
    check_fits(checkpoint, settings.stored, classes, path)
    method = assemble_method(settings, classes)
    networks = method.evaluated()
    name = network or list(networks)[-1]
    if name not in networks:
        raise InputError(f"network={name}: {suggest(name, networks)}")
    check_weights(checkpoint, method.state_dict(), path)
    method.load_state_dict(checkpoint["state_dict"])
    return networks[name].eval()
