"""What fits on which GPU: the memory of the recipes at their crop and batch, computed on PyTorch's ``meta`` device.

python benchmarks/recipe_memory.py [EXPERIMENT ...]

Tensors on ``meta`` have a size but no numbers, so no GPU, no data and little time is needed.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass

from bare import recipes
from random_batch import random_batch

from semiseg.config import compose_config
from semiseg.config.settings import Settings, read_settings
from semiseg.training.assemble import assemble_method
from semiseg.training.step_memory import StepMemory, step_memory
from semiseg.training.trainer import prepare_networks

CARDS = (8, 16, 24, 40, 80)
"""GB of memory."""

USABLE = 0.9
"""Share of a card that a run can have: the context of the driver and fragmentation take the rest."""

HALF = 0.7
"""Activations in bf16 to those in float32, counted for UniMatch on ResNet-50 under autocast on a CPU: 0.67 to 0.70."""


@dataclass(frozen=True)
class Estimate:
    """Bytes of a recipe's step on one card: as it is, and with activation checkpointing."""

    plain: StepMemory
    checkpointed: StepMemory
    batch: tuple[int, int]

    def fitting(self, gigabytes: int) -> str:
        """The mildest override that makes it fit a card."""
        room = USABLE * gigabytes * 1e9
        choices = [("as it is", self.plain.total), ("bf16", self.plain.at(HALF).total)]
        choices.append(("bf16 + checkpointing", self.checkpointed.at(HALF).total))
        parts = 2
        while parts <= min(self.batch):
            choices.append((f"both, batch / {parts}", self.checkpointed.at(HALF / parts).total))
            parts *= 2
        return next((name for name, needed in choices if needed <= room), "no")


def estimate(name: str) -> Estimate:
    """The memory of a recipe's step, without and with activation checkpointing."""
    plain, checkpointed = (counted(_settings(name, extra)) for extra in ([], ["checkpoint_activations"]))
    recipe = _settings(name, [])
    return Estimate(plain, checkpointed, (recipe.batch.labeled, recipe.batch.unlabeled))


def counted(settings: Settings) -> StepMemory:
    """The memory of a step at the crop and batch of the settings."""
    method = assemble_method(settings, _classes(settings), max_steps=100).to("meta").train()
    prepare_networks(method, settings.trainer)
    method.steps_done = 50  # past every warm-up
    batch = random_batch(method, settings.batch.labeled, settings.batch.unlabeled, settings.crop_size, "meta")
    return step_memory(method, batch, "cuda")


def _settings(name: str, switches: Sequence[str]) -> Settings:
    switched = [f"trainer.{switch}=true" for switch in switches]
    weights = "weights" in compose_config([f"experiment={name}"]).model
    more = ["model.weights=none"] if weights else []
    return read_settings(compose_config([f"experiment={name}", "trainer.accelerator=cpu", *more, *switched]))


def _classes(settings: Settings) -> list[str]:
    data = settings.protocol.partition("/")[0]
    return [str(i) for i in range({"cityscapes": 19, "coco": 81, "ade20k": 150}.get(data, 21))]


def main(argv: Sequence[str] | None = None) -> None:
    """Print a table in Markdown."""
    parser = argparse.ArgumentParser(description="Memory of the recipes, computed without a GPU.")
    parser.add_argument("names", nargs="*", metavar="EXPERIMENT", help="such as unimatch/voc; all by default")
    args = parser.parse_args(argv)
    heads = ["recipe", "float32", "bf16", "checkpointing", "both", *(f"{card} GB" for card in CARDS)]
    print(f"| {' | '.join(heads)} |")
    print(f"| --- {'| ---: ' * 4}{'| --- ' * len(CARDS)}|")
    for name in args.names or recipes():
        found = estimate(name)
        plain, saving = found.plain, found.checkpointed
        bytes_ = (plain.total, plain.at(HALF).total, saving.total, saving.at(HALF).total)
        cells = [f"`{name}`", *(f"{n / 1e9:.1f} GB" for n in bytes_), *map(found.fitting, CARDS)]
        print(f"| {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
