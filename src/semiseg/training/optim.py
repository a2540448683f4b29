"""Optimizers with a per-step poly schedule and separate learning rates for encoder and heads."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any

import torch
from pydantic import Field
from torch import nn

from semiseg.arguments import checked
from semiseg.errors import InputError
from semiseg.ops.schedules import poly


@dataclass(frozen=True, kw_only=True)
class _Poly(ABC):
    """Shared part: parameter groups and the schedule.

    Args:
        max_steps: optimizer steps of the run.
        lr: learning rate of the encoder.
        head_factor: everything outside ``network.encoder`` gets lr * head_factor.
        weight_decay: applied to all parameters, as in the UniMatch family.
        power, offset, warmup_steps: see ``semiseg.ops.schedules.poly``.
        min_lr: final value of the schedule, for every group: (lr - min_lr) * (1 - t/T)^power + min_lr, as in mmcv.
    """

    max_steps: Annotated[int, Field(ge=1)]
    lr: Annotated[float, Field(gt=0)]
    head_factor: Annotated[float, Field(ge=0)] = 1.0
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    power: Annotated[float, Field(ge=0)] = 0.9
    offset: Annotated[int, Field(ge=0)] = 0
    warmup_steps: Annotated[int, Field(ge=0)] = 0
    min_lr: Annotated[float, Field(ge=0)] = 0.0

    def __post_init__(self) -> None:
        if self.min_lr > self.lr * min(1.0, self.head_factor):
            raise InputError(f"optim.min_lr={self.min_lr}: expected at most the smallest learning rate")

    @abstractmethod
    def optimizer(self, groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
        """The optimizer for parameter groups with their own ``lr``."""

    def __call__(self, networks: Sequence[nn.Module]) -> dict[str, Any]:
        """The return value of Lightning's ``configure_optimizers``."""
        encoder: list[nn.Parameter] = []
        head: list[nn.Parameter] = []
        for network in networks:
            for name, parameter in network.named_parameters():
                if parameter.requires_grad:
                    (encoder if name.startswith("encoder.") else head).append(parameter)
        groups = [
            {"params": encoder, "lr": self.lr, "name": "encoder"},
            {"params": head, "lr": self.lr * self.head_factor, "name": "head"},
        ]
        optimizer = self.optimizer([g for g in groups if g["params"]])
        factor = partial(
            poly, total=self.max_steps, power=self.power, offset=self.offset, warmup_steps=self.warmup_steps
        )
        # A frozen group (head_factor 0) has no minimum either.
        factors: list[Callable[[int], float]] = [
            partial(factor, floor=self.min_lr / (group["lr"] or 1.0)) for group in optimizer.param_groups
        ]
        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, factors)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}


@checked
@dataclass(frozen=True, kw_only=True)
class SGDPoly(_Poly):
    """SGD with momentum."""

    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9

    def optimizer(self, groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
        """torch.optim.SGD."""
        return torch.optim.SGD(groups, momentum=self.momentum, weight_decay=self.weight_decay)


@checked
@dataclass(frozen=True, kw_only=True)
class AdamWPoly(_Poly):
    """AdamW."""

    betas: tuple[Annotated[float, Field(ge=0, lt=1)], Annotated[float, Field(ge=0, lt=1)]] = (0.9, 0.999)

    def optimizer(self, groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
        """torch.optim.AdamW."""
        return torch.optim.AdamW(groups, betas=(self.betas[0], self.betas[1]), weight_decay=self.weight_decay)
