"""Evaluation: metric update against one argmax, sliding window against bare forwards of its windows.

All figures are ratios within one run, so that they can be compared between machines.
Run: python benchmarks/bench_eval.py [OUT_DIR]
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn

from semiseg.inference import Sliding
from semiseg.metrics.confusion import ConfusionMatrix

REPEATS = 5


def ratio(work: Callable[[], object], reference: Callable[[], object], device: torch.device) -> float:
    """Best time of one over best time of the other; the two take turns, so that both meet the same load."""
    best = [float("inf"), float("inf")]
    for run in range(REPEATS + 1):
        for k, timed in enumerate((work, reference)):
            start = time.perf_counter()
            timed()
            if device.type == "cuda":
                torch.cuda.synchronize()
            if run:  # the first warms up
                best[k] = min(best[k], time.perf_counter() - start)
    return best[0] / best[1]


def metric_update(device: torch.device) -> float:
    logits = torch.randn(8, 21, 513, 513, device=device)
    target = torch.randint(21, (8, 513, 513), device=device)
    target[:, :50] = 255
    pred, metric = logits.argmax(1), ConfusionMatrix(21).to(device)
    return ratio(lambda: metric.update(pred, target), lambda: logits.argmax(1), device)


def sliding_window(device: torch.device) -> float:
    """A small network, so that what is around the forwards weighs more than it does with a real one."""
    channels = 64
    model = nn.Sequential(
        nn.Conv2d(3, channels, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Conv2d(channels, channels, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(channels, 19, 1),
        nn.Upsample(scale_factor=2, mode="bilinear"),
    ).to(device)
    images = torch.randn(1, 3, 512, 1024, device=device)
    sliding = Sliding(400, batch=4)  # 2 x 4 windows, like the field's 798 on 1024 x 2048
    windows = torch.randn(4, 3, 400, 400, device=device)

    @torch.no_grad()
    def bare() -> None:
        for _ in range(2):  # 2 x 4 windows
            model(windows).softmax(1)

    return ratio(lambda: sliding(model, images), bare, device)


def main(out_dir: Path) -> dict[str, float]:
    """Measure, print a table and write ``eval.json``; returns what it holds."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    result = {
        "metric_update_over_argmax": metric_update(device),
        "sliding_over_bare_forwards": sliding_window(device),
    }
    goals = {"metric_update_over_argmax": 0.25, "sliding_over_bare_forwards": 1.25}
    print(f"{'evaluation, ratios on ' + device.type:<40}{'value':>8}{'goal':>8}")
    for name, value in result.items():
        print(f"{name:<40}{value:>8.3f}{goals[name]:>8.2f}")
    out_dir.mkdir(parents=True, exist_ok=True)
    (out_dir / "eval.json").write_text(json.dumps(result, indent=2) + "\n")
    return result


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent / "results")
