"""What fits on which GPU: the memory of the recipes, estimated on a CPU.

python benchmarks/recipe_memory.py [EXPERIMENT ...] [--crop N]

Networks of convolutions are measured at a smaller crop and batch: their activations grow with the pixels of a batch.
Those of transformers need not, so their recipes are counted at the crop and batch that they have, on PyTorch's device
``meta``, which computes shapes and no numbers. Networks, gradients and optimizer states have the size that they have.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from unittest.mock import patch

import torch
from random_batch import random_batch
from torch import Tensor
from torch.nn import functional

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
    """Names of the experiments, the demonstrations left out."""
    folder = conf_dir() / "experiment"
    return sorted(path.relative_to(folder).with_suffix("").as_posix() for path in folder.glob("*/*.yaml"))


def estimate(name: str, crop: int) -> Estimate:
    """Measure a step at a small crop and batch and scale its activations, or count it as it is."""
    recipe = _settings(name, [])
    of = partial(_measure, crop=crop) if "_r" in recipe.model else counted
    plain, checkpointed = (of(_settings(name, extra)) for extra in ([], ["checkpoint_activations"]))
    return Estimate(plain, checkpointed, (recipe.batch.labeled, recipe.batch.unlabeled))


def counted(settings: Settings) -> StepMemory:
    """A step of the settings' crop and batch without its numbers: what autograd keeps of it."""
    with torch.device("meta"):
        method = assemble_method(settings, _classes(settings), max_steps=100).to("meta").train()
        prepare_networks(method, settings.trainer)
        method.steps_done = 50  # past every warm-up
        batch = random_batch(method, settings.batch.labeled, settings.batch.unlabeled, settings.crop_size, "meta")
        with patch.object(functional, "scaled_dot_product_attention", _fused_attention):
            return step_memory(method, batch)


def _fused_attention(q: Tensor, k: Tensor, v: Tensor, *, dropout_p: float = 0.0, scale: float | None = None) -> Tensor:
    """Attention that keeps queries, keys, values and result, as on CPUs and GPUs; ``meta`` would keep the weights."""
    attended: Tensor = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(q, k, v, dropout_p, scale=scale)[0]
    return attended


def _settings(name: str, switches: Sequence[str]) -> Settings:
    switched = [f"trainer.{switch}=true" for switch in switches]
    weights = "weights" in compose_config([f"experiment={name}"]).model
    more = ["model.weights=none"] if weights else []
    return read_settings(compose_config([f"experiment={name}", "trainer.accelerator=cpu", *more, *switched]))


def _measure(settings: Settings, crop: int) -> StepMemory:
    height, width = settings.crop_size
    smaller = min(1.0, crop / max(height, width))
    small = (round(height * smaller), round(width * smaller))
    method = assemble_method(settings, _classes(settings), max_steps=100).train()
    prepare_networks(method, settings.trainer)
    method.steps_done = 50  # past every warm-up
    batch = random_batch(method, MEASURED_BATCH, MEASURED_BATCH, small)
    images = (settings.batch.labeled + settings.batch.unlabeled) / (2 * MEASURED_BATCH)
    return step_memory(method, batch).at(images * height * width / (small[0] * small[1]))


def _classes(settings: Settings) -> list[str]:
    data = settings.protocol.partition("/")[0]
    return [str(i) for i in range({"cityscapes": 19, "coco": 81, "ade20k": 150}.get(data, 21))]


def main(argv: Sequence[str] | None = None) -> None:
    """Print a table in Markdown."""
    parser = argparse.ArgumentParser(description="Memory of the recipes, estimated on a CPU.")
    parser.add_argument("names", nargs="*", metavar="EXPERIMENT", help="such as unimatch/voc; all by default")
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
