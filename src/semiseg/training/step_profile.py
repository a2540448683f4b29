"""Where the time and memory of one optimizer step go, measured in the real training loop."""

from __future__ import annotations

import functools
import inspect
import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from types import ModuleType
from typing import Any, cast
from unittest.mock import patch

import pytorch_lightning as pl
import torch
from torch.utils.flop_counter import FlopCounterMode, conv_flop_count

from semiseg.config.settings import Settings
from semiseg.methods.base import SemiMethod
from semiseg.methods.on_top import OnTop
from semiseg.training.callbacks.ema_teacher import EmaTeacher
from semiseg.training.peak_memory import peak_memory
from semiseg.training.short_run import train_briefly

FORWARD = (
    "features", "decode", "classify", "upsample", "logits_and_representation", "correlated", "forward",
    "decoder.context", "decoder.join", "decoder.refine.forward", "classifier.forward",
)  # fmt: skip
"""Methods of a network and its parts that count as its forward pass."""


@dataclass(frozen=True)
class StepProfile:
    """One optimizer step, on average.

    Attributes:
        seconds: section -> seconds; their sum is ``total``, and ``rest`` is what no section covers.
        total: seconds of a step.
        flops: floating-point operations of forward and backward pass, a multiply-add counted as two.
        matrix_flops: operations per second of a large matrix product on this device.
        peak_memory: peak bytes in tensors during a step, excluding networks, optimizer and batch.
    """

    seconds: dict[str, float]
    total: float
    flops: int
    matrix_flops: float
    peak_memory: int

    @property
    def utilization(self) -> float:
        """Share of the device's matmul rate that the step reaches, in [0, 1]."""
        return self.flops / self.total / self.matrix_flops

    @property
    def rest(self) -> float:
        """Share of the step that no section covers, in [0, 1]."""
        return self.seconds["rest"] / self.total


class Stopwatch:
    """Seconds by section. Sections nest; an outer one excludes the time of inner ones.

    On a GPU the device is synchronized at section boundaries, so that work counts in the section that launched it.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.seconds: dict[str, float] = defaultdict(float)
        self.running = False
        self._open: list[str] = []
        self._since = 0.0

    def now(self) -> float:
        """Clock time in seconds, after the device has finished."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.perf_counter()

    @contextmanager
    def section(self, name: str) -> Iterator[None]:
        """Time the enclosed code."""
        self._lap()
        self._open.append(name)
        try:
            yield
        finally:
            self._lap()
            self._open.pop()

    def wrap(self, owner: Any, method: str, name: str) -> None:
        """Time every call of ``owner.method`` as a section."""
        call = getattr(owner, method)

        @functools.wraps(call)
        def timed(*args: Any, **kwargs: Any) -> Any:
            with self.section(name):
                return call(*args, **kwargs)

        setattr(owner, method, timed)

    def _lap(self) -> None:
        now = self.now()
        if self.running and self._open:
            self.seconds[self._open[-1]] += now - self._since
        self._since = now


class ProfileStep(pl.Callback):
    """Measures the steps of a fit, after some warm-up steps.

    It must be the first callback: it wraps the others when training starts.

    Args:
        warmup: steps that are not measured.
    """

    def __init__(self, warmup: int = 3) -> None:
        self.warmup, self.steps = warmup, 0
        self.watch = Stopwatch(torch.device("cpu"))
        self.batch: Any = None  # the latest, on the device and normalized
        self._begin = self._end = 0.0
        self._patches = ExitStack()

    def setup(self, trainer: pl.Trainer, pl_module: Any, stage: str) -> None:
        """Wrap the loader before the first batch."""
        loader = trainer.datamodule.train_dataloader  # type: ignore[attr-defined]
        trainer.datamodule.train_dataloader = lambda: _TimedLoader(loader(), self.watch)  # type: ignore[attr-defined]

    def on_train_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Wrap everything that a step calls."""
        watch, data = self.watch, trainer.datamodule  # type: ignore[attr-defined]
        watch.device = trainer.strategy.root_device
        for hook in ("transfer_batch_to_device", "on_after_batch_transfer"):
            watch.wrap(data, hook, "transfer and normalize")
        watch.wrap(pl_module, "step", "loss terms")
        watch.wrap(pl_module, "sup_loss", "loss terms: sup_loss")
        for name, module in pl_module.named_children():
            for part in module if isinstance(module, torch.nn.ModuleList) else [module]:
                self._wrap_passes(part, f"forward {name}")
        for module, function in _operations(pl_module):
            self._patches.enter_context(patch.object(module, function, getattr(module, function)))
            watch.wrap(module, function, f"loss terms: {function}")
        watch.wrap(trainer.strategy, "backward", "backward")
        for optimizer in trainer.optimizers:
            watch.wrap(optimizer, "step", "optimizer")
            watch.wrap(optimizer, "zero_grad", "optimizer")
        for callback in trainer.callbacks:  # type: ignore[attr-defined]
            if callback is not self:
                section = "EMA" if isinstance(callback, EmaTeacher) else "logging"
                for hook in ("on_train_batch_start", "on_train_batch_end"):
                    watch.wrap(callback, hook, section)

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Start the clock after the warm-up; record the time of the latest step."""
        now, self.batch = self.watch.now(), batch
        if trainer.global_step == self.warmup:
            self.watch.seconds.clear()
            self.watch.running, self._begin = True, now
        elif self.watch.running:
            self._end, self.steps = now, self.steps + 1
            self.watch.running = trainer.global_step < trainer.max_steps  # a validation follows the last step

    def _wrap_passes(self, module: torch.nn.Module, name: str) -> None:
        """Time the passes of a network, or of a method's own head."""
        for path in FORWARD if hasattr(module, "features") else ("forward",):
            *parts, method = path.split(".")
            owner: Any = module
            for part in parts:
                owner = getattr(owner, part, None)
            if hasattr(owner, method):
                self.watch.wrap(owner, method, name)

    def close(self) -> None:
        """Restore the original functions of the method modules."""
        self._patches.close()

    def averages(self) -> dict[str, float]:
        """Seconds per step by section, including ``total`` and ``rest``."""
        total = (self._end - self._begin) / self.steps
        seconds = {name: s / self.steps for name, s in self.watch.seconds.items()}
        return {**seconds, "rest": total - sum(seconds.values()), "total": total}


class _TimedLoader:
    """A loader that times the wait for data."""

    def __init__(self, loader: Any, watch: Stopwatch) -> None:
        self.loader, self.watch = loader, watch

    def __len__(self) -> int:
        return len(self.loader)

    def __iter__(self) -> Iterator[Any]:
        batches = iter(self.loader)
        while True:
            with self.watch.section("data wait"):
                batch = next(batches, None)
            if batch is None:
                return
            yield batch


def _operations(method: SemiMethod) -> list[tuple[ModuleType, str]]:
    """The functions of ``semiseg.ops`` used by a method, by its base method, and by their parts, such as a contrast."""
    methods = [method, *([method.base] if isinstance(method, OnTop) else [])]
    names = {cls.__module__ for one in methods for cls in type(one).__mro__ if "semiseg.methods." in cls.__module__}
    names |= {type(part).__module__ for part in method.modules() if "semiseg.ops." in type(part).__module__}
    modules = [sys.modules[name] for name in sorted(names)]
    return [
        (module, name)
        for module in modules
        for name, value in vars(module).items()
        if inspect.isfunction(value) and value.__module__.startswith("semiseg.ops.") and not name.startswith("_")
    ]


def profile_step(settings: Settings, *, steps: int, warmup: int = 3) -> StepProfile:
    """Train a few steps as ``semiseg train`` would, and measure them. No files are kept.

    Args:
        settings: settings of the run; its number of steps, validation and panels are replaced.
        steps: measured steps.
        warmup: unmeasured steps before them.
    """
    measured = ProfileStep(warmup)
    try:
        method = cast(SemiMethod, train_briefly(settings, measured, steps + warmup).lightning_module)
    finally:
        measured.close()
    device = measured.watch.device
    method.to(device).train()
    batch = measured.batch

    def step() -> None:
        method.step(batch).loss.backward()
        method.zero_grad(set_to_none=True)

    with FlopCounterMode(
        display=False, custom_mapping={torch.ops.aten.convolution_backward: convolution_backward_flops}
    ) as counter:
        step()
    peak = peak_memory(step, device)
    seconds = measured.averages()
    return StepProfile(seconds, seconds.pop("total"), counter.get_total_flops(), matrix_rate(device), peak)


def convolution_backward_flops(
    grad_shape: list[int], x_shape: list[int], w_shape: list[int], *rest: Any, out_shape: Any, **_: Any
) -> int:
    """Operations of the backward pass of a convolution: each gradient takes as many as the forward pass.

    PyTorch's own formula counts the weights' gradient as if there were one group: 1152 times too many operations for
    a depthwise convolution of 1152 channels.
    """
    transposed, mask = rest[4], rest[7]
    forward: int = conv_flop_count(x_shape, w_shape, grad_shape, transposed)
    return forward * (mask[0] + mask[1])


def matrix_rate(
    device: torch.device, side: int | None = None, rounds: int = 5, dtype: torch.dtype = torch.float32
) -> float:
    """Operations per second of a (side, side) matrix product, best of several rounds; large enough for the device."""
    side = side or (8192 if device.type == "cuda" else 1024)
    a, watch = torch.randn(side, side, device=device, dtype=dtype), Stopwatch(device)
    best = float("inf")
    for _ in range(rounds + 1):
        start = watch.now()
        a @ a
        best = min(best, watch.now() - start)
    return 2 * side**3 / best
