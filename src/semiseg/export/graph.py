"""The exported graph: a network, optionally with normalization before it and argmax after it."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from semiseg.inference import most_probable

log = logging.getLogger(__name__)

AXES = ("batch", "height", "width")
DIMENSIONS = {"batch": 0, "height": 2, "width": 3}


class Graph(nn.Module):
    """(B, 3, H, W) -> (B, C, H, W) float32 logits, or (B, H, W) uint8 classes.

    Args:
        network: maps normalized images to logits.
        mean: mean of the three channels of images scaled to [0, 1].
        std: their standard deviation.
        normalize: the input is raw RGB, uint8; otherwise normalized, float32.
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
        """Random images in the input format of the graph."""
        images = torch.randint(0, 256, (batch, 3, *size), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
        return images if self.normalize else self.prepare(images)


def trace(graph: Graph, size: tuple[int, int]) -> Iterator[tuple[torch.export.ExportedProgram, tuple[str, ...]]]:
    """Export with as many dynamic axes as the network allows: yields candidates, the most dynamic first.

    A network whose control flow depends on its input size may yield a program that is valid for some sizes only.
    Therefore each candidate is compared with the network at other sizes, and those that differ are skipped.

    Args:
        graph: on the CPU, in eval mode.
        size: (H, W) in pixels, of all images if the size is fixed.

    Yields:
        The program, and which of batch, height and width are dynamic.
    """
    # An indivisible size: encoders with fixed patches pad it, so that the program contains the padding.
    odd = (max(size[0] - 3, 9) | 1, max(size[1] - 5, 9) | 1)
    for axes, example in ((AXES, odd), (AXES[:1], size), ((), size)):
        shapes = ({DIMENSIONS[axis]: torch.export.Dim.AUTO for axis in axes},) if axes else None
        images = graph.example(example, batch=2 if axes else 1)
        try:
            with torch.no_grad():
                program = torch.export.export(graph, (images,), dynamic_shapes=shapes)
        except Exception as e:  # of many kinds
            log.debug("no program with dynamic %s: %s", axes, e)
            continue
        if set(_free(program)) >= set(axes) and _agrees(graph, program, size, axes):
            yield program, axes


@torch.no_grad()
def _agrees(graph: Graph, program: torch.export.ExportedProgram, size: tuple[int, int], axes: Sequence[str]) -> bool:
    """Whether program and network give the same output, at the given size and, for dynamic axes, at other sizes."""
    module = program.module(check_guards=False)
    height, width = size
    sizes = [size, (height + 13, width + 6), (2 * height, width)] if "height" in axes else [size]
    for k, other in enumerate(sizes):
        images = graph.example(other, batch=1 + k if axes else 1)
        try:
            found, expected = module(images), graph(images)
        except Exception as e:
            log.debug("the program fails at %s: %s", other, e)
            return False
        if found.shape != expected.shape or (found.float() - expected.float()).abs().mean() > 1e-3:
            return False
    return True


def _free(program: torch.export.ExportedProgram) -> tuple[str, ...]:
    """The dynamic axes of the program's input."""
    name = program.graph_signature.user_inputs[0]
    (node,) = (n for n in program.graph.nodes if n.op == "placeholder" and n.name == name)
    shape = node.meta["val"].shape
    return tuple(axis for axis in AXES if not str(shape[DIMENSIONS[axis]]).isdigit())
