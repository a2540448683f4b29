"""What fits on which GPU: the memory of the recipes, estimated on a CPU at a smaller crop and batch.

python benchmarks/recipe_memory.py [EXPERIMENT ...] [--crop N]

Activations grow with the pixels of a batch, which holds for networks of convolutions; so recipes on transformers are
left out unless they are named. Networks, gradients and optimizer states have the size that they have.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass

from random_batch import random_batch

from semiseg.config import compose_config, conf_dir
from semiseg.config.settings import Settings, read_settings
from semiseg.training.assemble import assemble_method
from semiseg.training.saved_tensors import StepMemory, step_memory
from semiseg.training.trainer import prepare_networks

CARDS = (8, 16, 24, 40, 80)
"""GB of memory."""

USABLE = 0.9
"""Share of a card that a run can have: the context of the driver and fragmentation take the rest."""

HALF = 0.7
"""Activations in bf16 to those in float32, counted for UniMatch on ResNet-50 under autocast on a CPU: 0.67 to 0.70."""

MEASURED_BATCH = 2


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


def recipes() -> list[str]:
    """Names of the experiments with a ResNet, the demonstrations left out."""
    folder = conf_dir() / "experiment"
    names = sorted(path.relative_to(folder).with_suffix("").as_posix() for path in folder.glob("*/*.yaml"))
    return [name for name in names if "_r" in compose_config([f"experiment={name}"]).choices.model]


def estimate(name: str, crop: int) -> Estimate:
    """Measure a step at a small crop and batch, and scale its activations."""
    plain, checkpointed = (_measure(_settings(name, extra), crop) for extra in ([], ["checkpoint_activations"]))
    recipe = _settings(name, [])
    return Estimate(plain, checkpointed, (recipe.batch.labeled, recipe.batch.unlabeled))


def _settings(name: str, switches: Sequence[str]) -> Settings:
    switched = [f"trainer.{switch}=true" for switch in switches]
    weights = "weights" in compose_config([f"experiment={name}"]).model
    more = ["model.weights=none"] if weights else []
    return read_settings(compose_config([f"experiment={name}", "trainer.accelerator=cpu", *more, *switched]))


def _measure(settings: Settings, crop: int) -> StepMemory:
    classes = [str(i) for i in range(19 if settings.protocol.startswith("cityscapes") else 21)]
    height, width = settings.crop_size
    smaller = min(1.0, crop / max(height, width))
    small = (round(height * smaller), round(width * smaller))
    method = assemble_method(settings, classes, max_steps=100).train()
    prepare_networks(method, settings.trainer)
    method.steps_done = 50  # past every warm-up
    batch = random_batch(method, MEASURED_BATCH, MEASURED_BATCH, small)
    images = (settings.batch.labeled + settings.batch.unlabeled) / (2 * MEASURED_BATCH)
    return step_memory(method, batch).at(images * height * width / (small[0] * small[1]))


def main(argv: Sequence[str] | None = None) -> None:
    """Print a table in Markdown."""
    parser = argparse.ArgumentParser(description="Memory of the recipes, estimated on a CPU.")
    parser.add_argument("names", nargs="*", metavar="EXPERIMENT", help="such as unimatch/voc; all with a ResNet")
    parser.add_argument("--crop", type=int, default=129, help="pixels of the crop that is measured")
    args = parser.parse_args(argv)
    heads = ["recipe", "float32", "bf16", "checkpointing", "both", *(f"{card} GB" for card in CARDS)]
    print(f"| {' | '.join(heads)} |")
    print(f"| --- {'| ---: ' * 4}{'| --- ' * len(CARDS)}|")
    for name in args.names or recipes():
        found = estimate(name, args.crop)
        plain, saving = found.plain, found.checkpointed
        bytes_ = (plain.total, plain.at(HALF).total, saving.total, saving.at(HALF).total)
        cells = [f"`{name}`", *(f"{n / 1e9:.1f} GB" for n in bytes_), *map(found.fitting, CARDS)]
        print(f"| {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
