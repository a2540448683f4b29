"""Batches and networks for tests of methods."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch import distributed as dist
from torch import multiprocessing as mp

from semiseg.data.batch import SemiBatch, Views
from semiseg.methods.base import Parts
from semiseg.models import tiny

CLASSES = ("background", "disc", "square", "ring")
SIZE = (32, 40)


def make_views(n: int = 2, n_strong: int = 2, *, box: bool = True, size: tuple[int, int] = SIZE) -> Views:
    """Random views; the last three rows of the first image are padding."""
    h, w = size
    padded = torch.zeros(n, h, w, dtype=torch.bool)
    padded[0, -3:] = True
    boxes = torch.tensor([4, 6, 20, 30]) if box else torch.zeros(4, dtype=torch.long)
    return Views(
        weak=torch.randn(n, 3, h, w),
        strong=torch.randn(n_strong, n, 3, h, w),
        padded=padded,
        boxes=boxes.expand(n_strong, n, 1, 4).clone(),
        class_scores=torch.rand(n_strong, n, len(CLASSES)),
        ids=[f"u{i}" for i in range(n)],
    )


def make_batch(n_labeled: int = 2, n_unlabeled: int = 2, *, n_strong: int = 2, box: bool = True) -> SemiBatch:
    """Random images and labels, one labeled pixel column ignored."""
    labels = torch.randint(0, len(CLASSES), (n_labeled, *SIZE))
    labels[:, :, 0] = 255
    return SemiBatch(
        labeled=torch.randn(n_labeled, 3, *SIZE),
        labels=labels,
        ids=[f"l{i}" for i in range(n_labeled)],
        unlabeled=make_views(n_unlabeled, n_strong, box=box),
    )


def make_parts() -> Parts:
    return Parts(network=lambda: tiny(len(CLASSES), width=8), classes=CLASSES, crop_size=SIZE)


class PixelModel(nn.Module):
    """1x1 convolutions behind the interface of a Segmentor: logits of a pixel depend on that pixel alone."""

    def __init__(self, n_classes: int = len(CLASSES), *, scale: float = 1.0) -> None:
        super().__init__()
        self.encoder = nn.Conv2d(3, 6, 1)
        self.decoder = nn.Identity()
        self.classifier = nn.Conv2d(6, n_classes, 1)
        self.scale = scale

    def features(self, x: Tensor) -> list[Tensor]:
        return [self.encoder(x)]

    def decode(self, features: list[Tensor]) -> Tensor:
        return self.decoder(features[0])

    def classify(self, decoded: Tensor, size: tuple[int, int]) -> Tensor:
        return self.scale * self.classifier(decoded)

    def forward(self, x: Tensor) -> Tensor:
        return self.classify(self.decode(self.features(x)), x.shape[-2:])


def two_processes(work: Callable[..., Any], *args: Any) -> list[Any]:
    """``work(rank, *args)`` in two processes of one gloo group; what each returned, by rank.

    ``work`` must be a function of a module; its result must be picklable by ``torch.save``.
    """
    with tempfile.TemporaryDirectory() as folder:
        mp.start_processes(_in_group, (folder, work, args), nprocs=2, start_method="fork")
        return [torch.load(Path(folder) / f"{rank}.pt", weights_only=False) for rank in range(2)]


def _in_group(rank: int, folder: str, work: Callable[..., Any], args: tuple[Any, ...]) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=2)
    torch.save(work(rank, *args), Path(folder) / f"{rank}.pt")
    dist.destroy_process_group()
