"""A whole step against the passes that the mathematics of its method needs, measured alone; see docs/speed.md."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch
from bare import Setting, pieces
from random_batch import random_batch
from table import Row
from timing import DEVICE, best_of

from semiseg.methods.base import SemiMethod

Part = Literal["network", "encoder", "decoder"]
SETTING = Setting("deeplabv3plus_r18", 128, 2) if DEVICE.type == "cpu" else Setting("deeplabv3plus_r50", 321, 4)


@dataclass(frozen=True)
class Pass:
    """One pass: what part of the network, how many batches of images, and whether a backward pass follows."""

    part: Part
    batches: int
    trained: bool


TRAIN, INFER = partial(Pass, "network", trained=True), partial(Pass, "network", trained=False)

PASSES: dict[str, tuple[Pass, ...]] = {
    "supervised": (TRAIN(1),),
    "mean_teacher": (INFER(1), TRAIN(2)),
    "fixmatch": (TRAIN(2), TRAIN(1)),
    "fixmatch_ema": (INFER(1), TRAIN(2)),
    "cps": 2 * (TRAIN(1), INFER(1), TRAIN(1)),
    "unimatch": (Pass("encoder", 2, True), Pass("decoder", 4, True), TRAIN(2)),
    "unimatch_v2": (INFER(1), TRAIN(1), TRAIN(2)),
}
"""Batches of equal size: one labeled, one unlabeled. UniMatch as its class is without a second draw to paste from."""


def measure(*, quick: bool) -> list[Row]:
    """Forward and backward pass of a step: loader, optimizer and EMA are left out on both sides."""
    setting, rounds = (Setting("tiny", 32, 2), 1) if quick else (SETTING, 3)
    rows = []
    for name, passes in PASSES.items():
        method = _method(name, setting)
        batch = random_batch(method, setting.batch, setting.batch, (setting.crop, setting.crop), DEVICE)
        works: dict[str, Callable[[], object]] = {"step": partial(_step, method, batch)}
        works |= {str(i): _alone(method, x, setting) for i, x in enumerate(passes)}
        best = best_of(works, rounds)
        whole = best.pop("step")
        floor = sum(best.values())
        rows.append(
            Row(
                f"step of {name}, {setting}",
                whole / floor,
                f"its {len(passes)} passes alone ({1e3 * floor:.0f} ms)",
                goal=1.1,
                detail=f"{1e3 * whole:.0f} ms",
            )
        )
    return rows


def _method(name: str, setting: Setting) -> SemiMethod:
    more = ["method.cutmix_partner=flip"] if name == "unimatch" else []
    _, method, _ = pieces(setting.config(name, *more))
    method.steps_done = method.max_steps // 2  # past every warm-up
    return method.to(DEVICE).train()


def _step(method: SemiMethod, batch: object) -> None:
    method.step(batch).loss.backward()  # type: ignore[arg-type]
    method.zero_grad(set_to_none=True)


def _alone(method: SemiMethod, what: Pass, setting: Setting) -> Callable[[], object]:
    network, n, side = method.student, what.batches * setting.batch, setting.crop
    images = torch.randn(n, 3, side, side, device=DEVICE)
    with torch.no_grad():
        maps = network.features(images)

    def run() -> None:
        network.train(what.trained)
        with torch.set_grad_enabled(what.trained):
            if what.part == "network":
                found = [network(images)]
            elif what.part == "encoder":
                found = network.features(images)
            else:  # the encoder's maps take a gradient, as in the step
                leaves = [f.detach().requires_grad_() for f in maps]
                found = [network.classify(network.decode(leaves), (side, side))]
        if what.trained:
            torch.autograd.backward(found, [torch.ones_like(x) for x in found])
            network.zero_grad(set_to_none=True)
        network.train()

    return run
