"""Comparison of an exported file with the network."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypedDict

import numpy as np
import torch

from semiseg.export.formats import Runner
from semiseg.export.graph import Graph
from semiseg.inference import most_probable

N_IMAGES = 8


class Parity(TypedDict):
    """Share of equal pixels in [0, 1]; largest logit difference, None if the file returns classes."""

    images: int
    source: str
    equal_pixels: float
    largest_logit_difference: float | None


@torch.no_grad()
def compare(graph: Graph, run: Runner, images: Sequence[np.ndarray], source: str) -> Parity:
    """Compare outputs on images of any size, one by one.

    Args:
        graph: on the CPU.
        run: the exported file.
        images: (H, W, 3) uint8, RGB.
        source: their source, for the record.
    """
    equal = pixels = 0
    largest = 0.0
    for image in images:
        raw = torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)[None]))
        logits = graph.network(graph.prepare(raw))
        expected = most_probable(logits).numpy()
        found = run((raw if graph.normalize else graph.prepare(raw)).numpy())
        if not graph.argmax:
            largest = max(largest, float(np.abs(found - logits.numpy()).max()))
            found = found.argmax(1)
        equal += int((found == expected).sum())
        pixels += expected.size
    return Parity(
        images=len(images),
        source=source,
        equal_pixels=equal / max(pixels, 1),
        largest_logit_difference=None if graph.argmax else largest,
    )
