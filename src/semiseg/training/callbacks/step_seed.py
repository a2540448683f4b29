"""Reseeds torch at every step, so that dropout is a function of (seed, step) and a resumed run repeats it."""

from __future__ import annotations

from typing import Any

import pytorch_lightning as pl
import torch


class StepSeed(pl.Callback):
    """Generators are not part of a checkpoint; deriving them from the step still makes resuming exact."""

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: Any, batch: Any, batch_idx: int) -> None:
        """Set a seed that differs for every step and every part of its batch.

        Two processes, or one that accumulates two batches, split a step into the same parts with the same seeds.
        """
        part = batch_idx % trainer.accumulate_grad_batches * trainer.world_size + trainer.global_rank
        mixed = (self.seed * 1_000_003 + trainer.global_step) * 1009 * 4099 + part
        seed, device = mixed % (2**63), trainer.strategy.root_device
        # torch.manual_seed visits every kind of device and formats a stack trace for each that is not initialized.
        torch.default_generator.manual_seed(seed)
        if device.type != "cpu":
            torch.get_device_module(device).manual_seed(seed)
