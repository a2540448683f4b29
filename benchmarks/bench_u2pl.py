"""U2PL: its contrast against the straightforward form, and its step against a mean teacher with the same passes."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import repeat

import torch
from bare import BareLoop, Setting, pieces
from table import Row
from timing import DEVICE, best_of
from torch import Tensor
from torch.nn import functional as F

from semiseg.data.batch import SemiBatch
from semiseg.methods.base import StepOutput
from semiseg.methods.networks import in_mode
from semiseg.methods.u2pl import U2PL
from semiseg.ops.contrast import PixelContrast, Pixels, percentiles
from semiseg.ops.losses import cross_entropy
from semiseg.ops.pseudo import probabilities, pseudo_label
from semiseg.training.peak_memory import peak_memory


def measure(*, quick: bool) -> list[Row]:
    """The contrast at VOC's size, and a whole step."""
    maps = (4, 16, 9, 9, 5, 40) if quick else (8, 256, 129, 129, 21, 30_000)
    return [*contrast_rows(*maps, rounds=1 if quick else 3), step_row(quick=quick)]


# -- the contrast ---------------------------------------------------------------------------------------------


def contrast_rows(n: int, dim: int, height: int, width: int, n_classes: int, queue: int, *, rounds: int) -> list[Row]:
    """Forward and backward with full queues and the released rule of negatives, ours against per-class loops."""
    torch.manual_seed(0)
    pixels, embeddings = scene(n, dim, height, width, n_classes)
    student, teacher = (x.to(DEVICE) for x in embeddings)
    student.requires_grad_()
    sizes = {"queue_size": queue, "first_queue_size": queue, "keys_per_class": queue // 15}
    ours = PixelContrast(n_classes, negative_rule="released", dim=dim, **sizes).to(DEVICE)
    ours.queues.vectors.copy_(F.normalize(torch.randn_like(ours.queues.vectors), dim=1))
    ours.queues.count.copy_(ours.queues.sizes)
    naive = PerClassContrast(n_classes, [torch.randn(queue, dim) for _ in range(n_classes)], queue)

    def train(contrast: Callable[..., Tensor]) -> None:
        torch.autograd.grad(contrast(pixels, student, teacher), student)

    works = {"ours": lambda: train(ours), "naive": lambda: train(naive)}
    memory = {name: peak_memory(work, DEVICE) for name, work in works.items()}
    seconds = best_of(works, rounds)
    what = f"{n} maps of {dim}x{height}x{width}, {n_classes} classes"
    return [
        Row(
            f"U2PL contrast, {what}",
            seconds["ours"] / seconds["naive"],
            f"per-class loops, queues on the host ({seconds['naive']:.2f} s)",
            goal=0.1,
            detail=f"{seconds['ours']:.3f} s",
        ),
        Row(
            f"U2PL contrast, extra memory, {what}",
            memory["ours"] / memory["naive"],
            f"the same ({memory['naive'] / 2**20:.0f} MiB)",
            goal=0.25,
            detail=f"{memory['ours'] / 2**20:.0f} MiB",
        ),
    ]


def scene(n: int, dim: int, height: int, width: int, n_classes: int) -> tuple[Pixels, tuple[Tensor, Tensor]]:
    """Blocky labels, probabilities that mostly agree with them, a fifth uncertain."""
    blocks = torch.randint(0, n_classes, (n, 1, max(height // 16, 2), max(width // 16, 2))).float()
    labels = F.interpolate(blocks, (height, width)).long().flatten()
    logits = torch.randn(labels.numel(), n_classes) * 1.5
    logits.scatter_add_(1, labels[:, None], torch.full((len(labels), 1), 3.0))
    prob = logits.softmax(1)
    labeled = torch.arange(len(labels)) < len(labels) // 2
    uncertainty = -(prob * prob.log()).sum(1)
    low, high = percentiles(uncertainty, ~labeled, (20.0, 80.0))
    pixels = Pixels(labels, prob, labeled | (uncertainty <= low), labeled | (uncertainty >= high), labeled)
    pixels = Pixels(*(x.to(DEVICE) for x in vars(pixels).values()))
    return pixels, (torch.randn(n, dim, height, width), torch.randn(n, dim, height, width))


class PerClassContrast:
    """As the specification describes the released code: loops over classes, boolean gathers, queues on the host."""

    def __init__(self, n_classes: int, queues: list[Tensor], limit: int) -> None:
        self.n_classes, self.queues, self.limit = n_classes, queues, limit

    def __call__(self, pixels: Pixels, student: Tensor, teacher: Tensor) -> Tensor:
        """The loss of ``PixelContrast`` with the released rules."""
        f_s, f_t = student.permute(0, 2, 3, 1), teacher.permute(0, 2, 3, 1)
        shape = f_s.shape[:-1]
        one_hot = F.one_hot(pixels.labels, self.n_classes).view(*shape, -1)
        low, high = one_hot * pixels.certain.view(*shape, 1), one_hot * pixels.uncertain.view(*shape, 1)
        order = pixels.prob.sort(dim=1, descending=True).indices.view(*shape, -1)
        unlabeled = ~pixels.labeled.view(shape)
        anchors, positives, valid = [], [], []
        for c in range(self.n_classes):
            certain, prob = low[..., c].bool(), pixels.prob[:, c].view(shape)
            anchors.append(f_s[certain & (prob > 0.3)])
            positives.append(f_t[certain].mean(0, keepdim=True))
            rank_is_low = (order[..., 3:20] == c).any(-1)
            keys = f_t[high[..., c].bool() & rank_is_low & unlabeled & (prob < 1)].detach().cpu()
            self.queues[c] = torch.cat([self.queues[c], keys])[-self.limit :]
            if certain.sum() > 0:
                valid.append(c)
        loss = 0.0 * student.sum()
        if len(valid) <= 1:
            return loss
        for c in valid:
            if len(anchors[c]) == 0 or len(self.queues[c]) == 0:
                continue
            chosen = anchors[c][torch.randint(len(anchors[c]), (256,), device=student.device)]
            with torch.no_grad():
                queue = self.queues[c].clone().to(student.device)
                rows = torch.randint(len(queue), (256 * 50,), device=student.device)
                negatives = queue[rows].view(256, 50, -1)
                positive = positives[c].expand(256, 1, -1)
                others = torch.cat([positive, negatives], dim=1)
            scores = F.cosine_similarity(chosen[:, None], others, dim=2)
            target = torch.zeros(256, dtype=torch.long, device=student.device)
            loss = loss + F.cross_entropy(scores / 0.5, target)
        return loss / len(valid)


# -- the step -------------------------------------------------------------------------------------------------


def step_row(*, quick: bool) -> Row:
    """A step of U2PL against one with the same forward passes and a plain loss on the teacher's labels."""
    sizes = {"cpu": ("deeplabv3plus_r18", 128, 2), "cuda": ("deeplabv3plus_r50", 321, 4)}
    setting = Setting("tiny", 32, 2) if quick else Setting(*sizes[DEVICE.type])
    loops = {}
    for name in ("u2pl", "plain"):
        _, method, datamodule = pieces(setting.config("u2pl", "method.warmup=0"))
        if name == "plain":
            method.step = partial(mean_teacher_step, method)
        loops[name] = BareLoop(method, datamodule, repeat(next(iter(datamodule.train_dataloader())))).step
    seconds = best_of(loops, 1 if quick else 7)
    return Row(
        f"step of u2pl, {setting}",
        seconds["u2pl"] / seconds["plain"],
        f"mean teacher, the same three passes of both heads ({1e3 * seconds['plain']:.0f} ms)",
        goal=1.2,
        detail=f"{1e3 * seconds['u2pl']:.0f} ms",
    )


def mean_teacher_step(method: U2PL, batch: SemiBatch) -> StepOutput:
    """Teacher on the weak view, student on all images, teacher on all images in train mode."""
    u, size, n_l = batch.unlabeled, batch.labeled.shape[-2:], len(batch.labeled)
    pseudo = pseudo_label(probabilities(method.teacher_logits(u.weak)), u.padded)
    images = torch.cat([batch.labeled, u.strong[0]])
    logits, embedding = method.student.logits_and_representation(images)
    logits_l, logits_u = method.student.upsample(logits, size).split([n_l, len(u.weak)])
    with torch.no_grad(), in_mode(method.teacher, train=True):
        method.teacher.logits_and_representation(images)
    loss = method.sup_loss(logits_l, batch.labels) + cross_entropy(logits_u, pseudo.labels)
    return StepOutput(loss=loss + 0.0 * embedding.sum())
