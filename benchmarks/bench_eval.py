"""Evaluation: metric update against one argmax, sliding window against bare forwards of its windows."""

from __future__ import annotations

import torch
from table import Row
from timing import DEVICE, best_of
from torch import nn

from semiseg.inference import Sliding
from semiseg.metrics.confusion import ConfusionMatrix


def measure(*, quick: bool) -> list[Row]:
    """Both, best of five."""
    rounds = 1 if quick else 5
    return [
        metric_update(rounds, size=64 if quick else 513),
        sliding_window(rounds, window=40 if quick else 400),
    ]


def metric_update(rounds: int, size: int) -> Row:
    """What counting adds to the argmax that evaluation needs anyway."""
    logits = torch.randn(8, 21, size, size, device=DEVICE)
    target = torch.randint(21, (8, size, size), device=DEVICE)
    target[:, : size // 10] = 255
    pred, metric = logits.argmax(1), ConfusionMatrix(21).to(DEVICE)
    best = best_of({"update": lambda: metric.update(pred, target), "argmax": lambda: logits.argmax(1)}, rounds)
    return Row(
        f"metric update, 8 x {size} x {size}, 21 classes",
        best["update"] / best["argmax"],
        "one argmax over the logits",
        goal=0.25,
        detail=f"{1e3 * best['update']:.1f} ms",
    )


def sliding_window(rounds: int, window: int) -> Row:
    """A small network, so that what is around the forwards weighs more than it does with a real one."""
    channels = 64
    model = nn.Sequential(
        nn.Conv2d(3, channels, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Conv2d(channels, channels, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(channels, 19, 1),
        nn.Upsample(scale_factor=2, mode="bilinear"),
    ).to(DEVICE)
    height = window * 32 // 25
    images = torch.randn(1, 3, height, 2 * height, device=DEVICE)
    sliding = Sliding(window, batch=4)  # 2 x 4 windows, like the field's 798 on 1024 x 2048
    windows = torch.randn(4, 3, window, window, device=DEVICE)

    @torch.no_grad()
    def bare() -> None:
        for _ in range(2):  # 2 x 4 windows
            model(windows).softmax(1)

    best = best_of({"sliding": lambda: sliding(model, images), "bare": bare}, rounds)
    return Row(
        f"sliding window, {window} on {height} x {2 * height}",
        best["sliding"] / best["bare"],
        "bare forwards of its windows",
        goal=1.25,
        detail=f"{best['sliding']:.2f} s an image",
    )
