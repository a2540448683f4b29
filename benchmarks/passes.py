"""The passes that each method requires, as work that can be timed separately: the minimum cost of a step."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import torch
from bare import Setting
from timing import DEVICE
from torch import Tensor, nn

Outputs = Sequence[Tensor]
Work = Callable[[], Outputs]
How = Literal["trained", "labels", "batch statistics"]
"""In train mode with a backward pass, in eval mode without gradient, or in train mode without gradient."""


@dataclass(frozen=True)
class Pass:
    """One pass over a number of batches of images.

    Args:
        part: (method, images) -> the work to time; its inputs are prepared in advance.
        batches: number of batches of images, each as large as the labeled batch.
        how: see ``How``.
    """

    part: Callable[[Any, Tensor], Work]
    batches: int
    how: How = "trained"

    def alone(self, method: Any, setting: Setting) -> Callable[[], None]:
        """The pass, with its backward pass if it is trained, and nothing else."""
        images = torch.randn(self.batches * setting.batch, 3, setting.crop, setting.crop, device=DEVICE)
        work, trained = self.part(method, images), self.how == "trained"

        def run() -> None:
            method.train(self.how != "labels")
            with torch.set_grad_enabled(trained):
                found = work()
            if trained:
                torch.autograd.backward(found, [torch.ones_like(x) for x in found])
                method.zero_grad(set_to_none=True)

        return run


def network(method: Any, images: Tensor) -> Work:
    """The student from images to full-size logits."""
    return lambda: [method.student(images)]


def encoder(method: Any, images: Tensor) -> Work:
    """The student's encoder alone."""
    return lambda: method.student.features(images)


def leaves(method: Any, images: Tensor) -> Callable[[], list[Tensor]]:
    """Encoder features, computed in advance; they require a gradient, as in a step."""
    with torch.no_grad():
        maps = method.student.features(images)
    return lambda: [f.detach().requires_grad_(torch.is_grad_enabled()) for f in maps]


def unimatch_decoder(method: Any, images: Tensor) -> Work:
    """Features of (labeled, weak), with and without dropped channels: all are decoded, three of four classified."""
    maps, size, n = leaves(method, images), images.shape[-2:], 3 * len(images) // 4
    return lambda: [method.student.classify(method.student.decode(maps())[:n], size)]


def two_heads(method: Any, images: Tensor) -> Work:
    """U2PL's student: full-size logits, and representations."""

    def work() -> Outputs:
        logits, representation = method.student.logits_and_representation(images)
        return [method.student.upsample(logits, images.shape[-2:]), representation]

    return work


def correlated_pass(method: Any, images: Tensor, *, dropped: bool) -> Work:
    """CorrMatch's network with its correlation head; ``dropped``: features with dropped channels are decoded too."""
    net, size = method.student, images.shape[-2:]

    def work() -> Outputs:
        features = net.features(images)
        decoded = net.decode([torch.cat([f, f]) for f in features] if dropped else features)
        logits, by_correlation, _ = net.correlated(features, decoded[: len(images)], size)
        more = [net.classify(decoded[-len(images) // 2 :], size)] if dropped else []
        return [logits, by_correlation, *more]

    return work


def at_scales(method: Any, images: Tensor) -> Work:
    """ST++'s labels: the network at every scale, and mirrored."""
    sizes = [round(images.shape[-1] * scale) for scale in method.labeling.scales]
    copies = 2 if method.labeling.flip else 1
    inputs = [nn.functional.interpolate(images, (side, side)) for side in sizes for _ in range(copies)]
    return lambda: [method.student(x) for x in inputs]


def joined(method: Any, images: Tensor) -> Work:
    """A decoder up to its last convolutions."""
    maps, decoder = leaves(method, images), method.student.decoder

    def work() -> Outputs:
        features = maps()
        return [decoder.join(features, decoder.context(features))]

    return work


def refined(method: Any, images: Tensor, *, second: bool = False) -> Work:
    """The last convolutions and the classifier; ``second``: those of GuidedMix's second head."""
    with torch.no_grad():
        made = joined(method, images)()[0]
    head = method.second_head if second else nn.Sequential(method.student.decoder.refine, method.student.classifier)
    return lambda: [head(made.detach().requires_grad_(torch.is_grad_enabled()))]


def second_head(method: Any, images: Tensor) -> Work:
    """GuidedMix's second head on encoder features, including MITrans."""
    maps = leaves(method, images)
    return lambda: [method.second_head(maps())]


def masked_pass(method: Any, images: Tensor) -> Work:
    """S4MIM's third pass: logits of the masked images, and one reconstruction per class."""
    net, size = method.student, images.shape[-2:]
    n_classes = min(method.max_classes, method.num_classes)

    def work() -> Outputs:
        features = net.features(images)
        context = net.decoder.context(features)
        decoded = net.decoder.refine(net.decoder.join(features, context))
        gates = context.new_ones(len(images), n_classes, *context.shape[-2:])
        return [net.classify(decoded, size), method.reconstruction(context, gates, size)]

    return work


def maps_of_mkd(method: Any, images: Tensor) -> Work:
    """MKD compares the output of the decoder."""
    return lambda: [method.student.decode(method.student.features(images))]


def allspark_labels(method: Any, images: Tensor) -> Work:
    """AllSpark's student with its block in eval mode."""
    net = method.student
    return lambda: [net.classify(method.decode(net.features(images), read_memory=False, joint=True), images.shape[-2:])]


def allspark_block(method: Any, images: Tensor) -> Work:
    """AllSpark's student with its block in training, reading the memory."""
    net, n_l = method.student, len(images) // 2

    def work() -> Outputs:
        features = net.features(images)
        scores = features[-1].new_zeros(n_l, method.num_classes, *features[-1].shape[-2:])
        decoded = method.decode(features, n_labeled=n_l, scores=scores, read_memory=True)
        return [net.classify(decoded, images.shape[-2:])]

    return work


TEACHER = (Pass(network, 1, "labels"), Pass(network, 2))
"""A teacher in eval mode on the weak view; the student on labeled and strong images in one batch."""

U2PL = (Pass(network, 1, "labels"), Pass(two_heads, 2, "batch statistics"), Pass(two_heads, 2))
UNIMATCH = (Pass(encoder, 2), Pass(unimatch_decoder, 4), Pass(network, 2))

PASSES: dict[str, tuple[Pass, ...]] = {
    "supervised": (Pass(network, 1),),
    "mean_teacher": TEACHER,
    "fixmatch": (Pass(network, 2), Pass(network, 1)),
    "fixmatch_ema": TEACHER,
    "augseg": TEACHER,
    "cps": 2 * (Pass(network, 1), Pass(network, 1, "batch statistics"), Pass(network, 1)),
    "unimatch": UNIMATCH,
    "unimatch_v2": (Pass(network, 1, "labels"), Pass(network, 1), Pass(network, 2)),
    "corrmatch": (Pass(partial(correlated_pass, dropped=True), 2), Pass(partial(correlated_pass, dropped=False), 1)),
    "stpp": (Pass(at_scales, 1, "labels"), Pass(network, 2)),
    "u2pl": U2PL,
    "u2pl_released": U2PL,
    "guidedmix": (
        Pass(encoder, 2), *2 * [Pass(joined, 1), Pass(refined, 1)], Pass(second_head, 1),
        Pass(encoder, 1, "batch statistics"), Pass(second_head, 1, "batch statistics"),
    ),
    "guidedmix_released": (
        Pass(encoder, 2), *2 * [Pass(joined, 1)], Pass(refined, 1), Pass(refined, 1, "batch statistics"),
        Pass(partial(refined, second=True), 1),
    ),
    "mkd": 2 * (*2 * (Pass(maps_of_mkd, 1),), *2 * (Pass(maps_of_mkd, 1, "batch statistics"),)),
    "allspark": (Pass(allspark_labels, 1, "labels"), Pass(allspark_block, 2)),
    "s4mim": (*UNIMATCH, Pass(masked_pass, 1)),
}  # fmt: skip
