"""The loop that one would write by hand around ``method.step``: the yardstick of the training benchmarks."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from omegaconf import DictConfig
from timing import DEVICE

from semiseg.config import compose_config, conf_dir
from semiseg.config.settings import Settings, read_settings
from semiseg.data.batch import SemiBatch
from semiseg.data.datasets.base import SegmentationDataset
from semiseg.data.loading.datamodule import SemiDataModule
from semiseg.methods.base import SemiMethod
from semiseg.ops.ema import EmaUpdater
from semiseg.training.assemble import Assembly, assemble
from semiseg.training.trainer import prepare_networks


def methods() -> list[str]:
    """Names of all methods."""
    return sorted(path.stem for path in (conf_dir() / "method").glob("*.yaml"))


def recipes() -> list[str]:
    """Names of the experiments that follow a paper: they lie in the folder of its method."""
    folder = conf_dir() / "experiment"
    found = (path for name in methods() for path in (folder / name).glob("*.yaml"))
    return sorted(path.relative_to(folder).with_suffix("").as_posix() for path in found)


@dataclass(frozen=True)
class Setting:
    """A network, its crop in pixels, and images per step of each kind."""

    model: str
    crop: int
    batch: int

    def __str__(self) -> str:
        return f"{self.model}, crop {self.crop}, batch {self.batch}+{self.batch}"

    def config(self, method: str, *overrides: str) -> DictConfig:
        """As typed after ``semiseg train``: the embedded data set, everything else as it comes."""
        size = self.crop * 3 // 2
        return compose_config(
            [
                f"method={method}", f"model={self.model}", f"crop_size=[{self.crop},{self.crop}]",
                f"batch.labeled={self.batch}", f"batch.unlabeled={self.batch}",
                f"data.size=[{size},{size}]", "data.n_train=64", "data.n_val=2", "protocol.fraction=0.25",
                f"trainer={'gpu' if DEVICE.type == 'cuda' else 'cpu'}", "trainer.precision=32-true",
                # Both loops load in their own process: workers would compete for the cores.
                "loader.num_workers=0", *overrides,
            ]
        )  # fmt: skip


def assembled(cfg: DictConfig) -> tuple[Settings, Assembly]:
    """What ``semiseg.training.fit`` builds before the trainer."""
    settings = read_settings(cfg)
    assembly = assemble(settings)
    prepare_networks(assembly.method, settings.trainer)
    return settings, assembly


def pieces(cfg: DictConfig) -> tuple[SegmentationDataset, SemiMethod, SemiDataModule]:
    """Data set, method and loaders of it."""
    _, assembly = assembled(cfg)
    return assembly.data.dataset, assembly.method, assembly.datamodule


class BareLoop:
    """Transfer, normalize, step, backward, optimizer, schedule, teacher; nothing is logged, checked or saved."""

    def __init__(self, method: SemiMethod, datamodule: SemiDataModule, batches: Iterator[SemiBatch]) -> None:
        self.method, self.datamodule, self.batches = method.to(DEVICE).train(), datamodule, batches
        optim = method.configure_optimizers()
        self.optimizer, self.scheduler = optim["optimizer"], optim["lr_scheduler"]["scheduler"]
        self.updaters = [EmaUpdater(pair) for pair in method.teacher_pairs()]
        method.steps_done = method.max_steps // 2  # past every warm-up
        self.done = 0

    def step(self) -> None:
        """One optimizer step."""
        batch = self.datamodule.transfer_batch_to_device(next(self.batches), DEVICE, 0)
        batch = self.datamodule.on_after_batch_transfer(batch, 0)
        self._update("before_step")
        self.optimizer.zero_grad()
        self.method.step(batch).loss.backward()
        self.optimizer.step()
        self.scheduler.step()
        self._update("after_step")
        self.done += 1

    def _update(self, when: str) -> None:
        for updater in self.updaters:
            if updater.ema.when == when:
                updater.update(self.done)
