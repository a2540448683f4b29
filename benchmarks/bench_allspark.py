"""AllSpark's block and SegFormer's head: work and time against the literal form, which stores every score and channel.

Work is counted by PyTorch at the paper's VOC size on tensors without data. Its counter does not know the fused kernel
of CPUs, so that the attention is taken apart into its matrix products for it; that changes nothing in the count.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from functools import partial

import torch
from table import Row
from timing import DEVICE, best_of
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from semiseg.models.allspark import ChannelAttention, ChannelAttentionBridge
from semiseg.models.decoders import SegFormerDecoder

VOC = 513  # crop in pixels
WIDTHS = (64, 128, 320, 512)
BATCH = 2  # of each kind
GOALS = {"operations": 1 / 5, "time": 1 / 3}  # of block and head together


def measure(*, quick: bool) -> list[Row]:
    """A whole step is the pass that labels B images and the training pass, forward and backward, over 2 B."""
    small, voc = ((8, 8, 16, 16), 65), (WIDTHS, VOC)
    check(*small)
    with FakeTensorMode():
        counted = {name: operations(work) for name, work in works(Case(*(small if quick else voc))).items()}
    seconds = best_of(works(Case(*(small if quick else voc))), 1 if quick else 2)
    rows = []
    for what in ("block", "head", "block and head"):
        for kind, measured, unit in (("operations", counted, "GFLOP"), ("time", seconds, "s")):
            scale = 1e-9 if kind == "operations" else 1
            ours, theirs = (
                sum(measured[f"{form} {part}"] for part in what.split(" and ")) for form in ("our", "literal")
            )
            rows.append(
                Row(
                    f"{kind} of AllSpark's {what} in a step, {BATCH}+{BATCH} crops of 513, 21 classes",
                    ours / theirs,
                    f"the literal form ({scale * theirs:.4g} {unit})",
                    goal=GOALS[kind] if what == "block and head" else None,
                    detail=f"{scale * ours:.4g} {unit}",
                )
            )
    return rows


class Case:
    """Maps of B labeled and B unlabeled images, and the two modules with a full memory."""

    def __init__(self, widths: Sequence[int], crop: int, *, n_classes: int = 21, dropout: float = 0.1) -> None:
        sides = [-(-crop // stride) for stride in (4, 8, 16, 32)]
        with DEVICE:
            self.maps = [torch.randn(2 * BATCH, c, s, s, requires_grad=True) for c, s in zip(widths, sides)]
            self.bridge = ChannelAttentionBridge(widths[-1], n_classes, (sides[-1], sides[-1]), dropout=dropout)
            self.decoder = SegFormerDecoder(widths, width=768 if crop == VOC else 16, dropout=0.0)
            self.scores = torch.randn(BATCH, n_classes, sides[-1], sides[-1])
        for linear in self.decoder.linear:
            nn.init.normal_(linear.bias)  # else it would not be noticed

    def block(self, *, literal: bool) -> Tensor:
        """Both passes; the result of the training pass."""
        x, bridge = self.maps[-1], self.bridge
        unlabeled = x.detach()[BATCH:]
        with torch.no_grad():
            bridge.eval()
            literal_block(bridge, unlabeled.repeat(2, 1, 1, 1)) if literal else bridge(unlabeled, joint=True)
        bridge.train()
        if not literal:
            return bridge(x, BATCH, self.scores, read_memory=True)
        return literal_block(bridge, x, self.scores)

    def head(self, *, literal: bool) -> Tensor:
        """Both passes; the result of the training pass."""
        join = literal_join if literal else (lambda decoder, maps: decoder.join(maps, maps[-1]))
        with torch.no_grad():
            join(self.decoder, [f.detach()[BATCH:] for f in self.maps])
        return join(self.decoder, self.maps)


def works(case: Case) -> dict[str, Callable[[], object]]:
    """Forward and backward of each part in each form."""

    def work(part: Callable[..., Tensor], literal: bool) -> None:
        result = part(literal=literal)
        result.backward(torch.ones_like(result))

    return {
        f"{form} {name}": partial(work, part, form == "literal")
        for name, part in (("block", case.block), ("head", case.head))
        for form in ("our", "literal")
    }


def operations(work: Callable[[], object]) -> int:
    """Floating-point operations of matrix products and convolutions; a multiplication and an addition are two."""
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        work()
    return counter.get_total_flops()


def check(widths: Sequence[int], crop: int) -> None:
    """Both forms give the same maps and gradients; without dropout, which draws in another order."""
    case = Case(widths, crop, n_classes=3, dropout=0.0)
    state = {name: buffer.clone() for name, buffer in case.bridge.named_buffers()}
    parameters = [*case.bridge.parameters(), *case.decoder.linear.parameters(), case.decoder.fuse.weight, *case.maps]
    results = []
    for literal in (False, True):
        for name, buffer in case.bridge.named_buffers():
            buffer.copy_(state[name])
        maps = [case.block(literal=literal), case.head(literal=literal)]
        loss = sum(x.square().mean() for x in maps)
        results.append([*maps, *torch.autograd.grad(loss, parameters)])
    for ours, theirs in zip(*results):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4 * theirs.abs().max().item())


def literal_join(decoder: SegFormerDecoder, maps: list[Tensor]) -> Tensor:
    """Every level at full size and full width, concatenated, then fused."""
    size = maps[0].shape[-2:]
    levels = [
        F.interpolate(linear(f), size, mode="bilinear", align_corners=False) for linear, f in zip(decoder.linear, maps)
    ]
    return decoder.fuse(torch.cat(levels[::-1], dim=1))


def literal_block(bridge: ChannelAttentionBridge, x: Tensor, scores: Tensor | None = None) -> Tensor:
    """The first half queries the memory if there are ``scores``, else the second half, which attends to itself."""
    embedded = F.gelu(bridge.map_in(x)).flatten(2).mT
    labeled, unlabeled = bridge.norm_in(embedded).chunk(2)
    sources = unlabeled
    if scores is not None:
        bridge.remember(unlabeled.mT, scores, (x.shape[2], x.shape[3]))
        sources = bridge.memory.mem.mT
    cross, within = bridge.cross, bridge.within
    q = cross.q(labeled).mT
    k, v = (project(sources).mT.flatten(0, 1) for project in (cross.k, cross.v))
    rebuilt = dropped(cross, cross.out(attention(cross, q[:, None], k, v)[:, 0].mT))
    q, k, v = (project(unlabeled).mT.unflatten(1, (2, -1)) for project in (within.q, within.k, within.v))
    refined = dropped(within, within.out(attention(within, q, k, v).transpose(1, 2).flatten(1, 2).mT))
    result = bridge.norm_out(torch.cat([rebuilt, refined]) + embedded).mT.unflatten(2, x.shape[2:])
    result = F.gelu(bridge.map_out(result))
    return result if bridge.training else result[: len(labeled)]


def attention(branch: ChannelAttention, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PyTorch counts channels
        standardized = F.instance_norm(q @ k.mT)
    return dropped(branch, standardized.softmax(-1)) @ v


def dropped(branch: ChannelAttention, x: Tensor) -> Tensor:
    return F.dropout(x, branch.dropout, branch.training)
