"""The feature augmentation of MKD: its share of a step, and against its literal form with tensors (n, C, A)."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from bare import Setting
from bench_methods import SETTING, one_batch
from table import Row
from timing import DEVICE, best_of
from torch import Tensor

from semiseg.methods.branch import AUGMENTED
from semiseg.ops.feature_augmentation import ClassStatistics, logit_shift
from semiseg.training.peak_memory import peak_memory


def measure(*, quick: bool) -> list[Row]:
    """All that feature augmentation does in one step: four networks, labeled and unlabeled part of each."""
    setting, rounds = (Setting("tiny", 32, 2), 1) if quick else (SETTING, 7)
    return [share_of_a_step(setting, rounds), *against_literal(5 if quick else 21, 8 if quick else 32, rounds)]


def share_of_a_step(setting: Setting, rounds: int) -> Row:
    """The same statistics, weights, and sizes of maps as in the step that is the yardstick."""
    loop = one_batch("mkd", setting)
    method, taken = loop.method, {}
    logits = method.logits
    names = {id(getattr(method, name)): name for name in AUGMENTED["both"]}

    def watch(network, f, labels, statistics):  # type: ignore[no-untyped-def]
        taken[names[id(network)]] = (f, labels)
        return logits(network, f, labels, statistics)

    method.logits = watch
    loop.step()
    del method.logits
    work = []
    for name in AUGMENTED["both"]:
        (f_l, f_u), labels = [method.reduced(x).detach() for x in taken[name][0]], taken[name][1]
        statistics, classifier = method.statistics[name], method.get_submodule(name).classifier
        work.append((statistics, classifier.weight, f_l, labels))
        work.append((statistics, classifier.weight, f_u, classifier(f_u).argmax(1)))
    works = {"step": loop.step, "augmentation": lambda: [augmented(*w) for w in work]}
    best = best_of(works, rounds)
    return Row(
        f"feature augmentation of MKD, {setting}",
        best["augmentation"] / best["step"],
        f"the whole step ({1e3 * best['step']:.0f} ms)",
        goal=0.05,
        detail=f"{1e3 * best['augmentation']:.1f} ms for 4 networks",
    )


def against_literal(n_classes: int, side: int, rounds: int) -> list[Row]:
    """One update and shift of 4 maps of 256 channels; a side of 64 is that of crops of 512."""
    features = torch.rand(4, 256, side, side, device=DEVICE)
    labels = torch.randint(0, n_classes, (4, side, side), device=DEVICE)
    weight = torch.randn(n_classes, 256, 1, 1, device=DEVICE)
    ours, theirs = (ClassStatistics(n_classes, 256).to(DEVICE) for _ in range(2))
    works: dict[str, Callable[[], object]] = {
        "ours": partial(augmented, ours, weight, features, labels),
        "literal": partial(literal, theirs, weight, features, labels),
    }
    assert torch.allclose(works["ours"](), works["literal"](), rtol=1e-4, atol=1e-4)  # type: ignore[arg-type]
    memory = {name: peak_memory(work, DEVICE) for name, work in works.items()}
    best = best_of(works, rounds)
    what = f"{labels.numel()} pixels, {n_classes} classes, 256 channels"
    milliseconds = {name: f"{1e3 * seconds:.1f} ms" for name, seconds in best.items()}
    mebibytes = {name: f"{n / 2**20:.0f} MiB" for name, n in memory.items()}
    return [
        Row(
            f"{kind} of class statistics and shift, {what}",
            measured["ours"] / measured["literal"],
            f"the literal form ({shown['literal']})",
            goal=0.5,
            detail=shown["ours"],
        )
        for kind, measured, shown in (("time", best, milliseconds), ("memory", memory, mebibytes))
    ]


def augmented(statistics: ClassStatistics, weight: Tensor, features: Tensor, labels: Tensor) -> Tensor:
    """As in the step."""
    statistics.update(features, labels)
    return logit_shift(statistics.table(weight.flatten(1)), labels, 1.0)


@torch.no_grad()
def literal(statistics: ClassStatistics, weight: Tensor, features: Tensor, labels: Tensor) -> Tensor:
    """The same by tensors (n, C, A), as the formulas are written."""
    n_classes, n_channels = statistics.mean.shape
    x, y = features.movedim(1, -1).reshape(-1, n_channels), labels.flatten()
    member = (
        (y.unsqueeze(1) == torch.arange(n_classes, device=y.device)).float().unsqueeze(2).expand(-1, -1, n_channels)
    )
    of_class = x.unsqueeze(1) * member
    new = member.sum(0)
    mean = of_class.sum(0) / new.clamp(min=1)
    variance = ((of_class - mean * member) ** 2).sum(0) / new.clamp(min=1)
    share = new / (new + statistics.count.unsqueeze(1)).clamp(min=1)
    statistics.variance.mul_(1 - share).add_(share * variance + share * (1 - share) * (mean - statistics.mean) ** 2)
    statistics.mean.mul_(1 - share).add_(share * mean)
    statistics.count.add_(new[:, 0])
    w = weight.flatten(1)
    sigma2 = ((w.unsqueeze(0) - w[y].unsqueeze(1)) ** 2 * statistics.variance[y].unsqueeze(1)).sum(2)
    return (0.5 * sigma2).view(*labels.shape, n_classes).movedim(-1, 1)
