"""The graph that leaves semiseg: a network, on request with normalization before it and arg-max behind it."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from semiseg.inference import most_probable

log = logging.getLogger(__name__)

AXES = ("batch", "height", "width")
DIMENSIONS = {"batch": 0, "height": 2, "width": 3}


class Graph(nn.Module):
    """(B, 3, H, W) -> (B, C, H, W) float32 logits, or (B, H, W) uint8 classes.

    Args:
        network: normalized images to logits.
        mean: of the three channels of images scaled to [0, 1].
        std: likewise.
        normalize: the input is RGB as it is read, uint8; otherwise normalized, float32.
        argmax: the output is the class of each pixel.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self, network: nn.Module, mean: Sequence[float], std: Sequence[float], *, normalize: bool, argmax: bool
    ) -> None:
        super().__init__()
        self.network, self.normalize, self.argmax = network, normalize, argmax
        self.register_buffer("mean", torch.tensor(mean).view(3, 1, 1))
        self.register_buffer("std", torch.tensor(std).view(3, 1, 1))

    def forward(self, images: Tensor) -> Tensor:
        """See the class."""
        logits: Tensor = self.network(self.prepare(images) if self.normalize else images)
        return most_probable(logits).to(torch.uint8) if self.argmax else logits

    def prepare(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) uint8, RGB -> float32, normalized."""
        prepared: Tensor = (images.float() / 255 - self.mean) / self.std
        return prepared

    def example(self, size: Sequence[int], batch: int = 2) -> Tensor:
        """Random images as the graph takes them."""
        images = torch.randint(0, 256, (batch, 3, *size), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
        return images if self.normalize else self.prepare(images)


@torch.no_grad()
def trace(graph: Graph, size: tuple[int, int]) -> tuple[torch.export.ExportedProgram, tuple[str, ...]]:
    """Export with as many free axes as the network allows.

    Args:
        graph: on the CPU, in eval mode.
        size: (H, W) of the example, and of all images where the size is not free.

    Returns:
        The program, and which of batch, height and width are free.
    """
    failure: Exception | None = None
    for axes in (AXES, AXES[:1], ()):
        wanted = {DIMENSIONS[axis]: torch.export.Dim.AUTO for axis in axes}
        example = graph.example(size, batch=2 if axes else 1)
        try:
            program = torch.export.export(graph, (example,), dynamic_shapes=({**wanted},) if axes else None)
        except Exception as e:  # of many kinds: a network that looks at its sizes
            failure = e
            continue
        return program, _free(program)
    raise RuntimeError("the network cannot be exported") from failure


def _free(program: torch.export.ExportedProgram) -> tuple[str, ...]:
    """The axes of the input that the program leaves open."""
    name = program.graph_signature.user_inputs[0]
    (node,) = (n for n in program.graph.nodes if n.op == "placeholder" and n.name == name)
    shape = node.meta["val"].shape
    return tuple(axis for axis in AXES if not str(shape[DIMENSIONS[axis]]).isdigit())
