"""Example panels: image, ground truth, prediction; and pseudo-labels of unlabeled images."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from PIL import Image
from torch import Tensor

from semiseg.data.readers.bands import as_rgb


class Panels(pl.Callback):
    """Writes PNG files to ``images/`` at every validation, and sends them to loggers that accept images.

    Args:
        folder: the run's ``images`` folder.
        classes, palette: names and (R, G, B) colors of the classes.
        mean, std: normalization to undo.
        n_val: length of the validation list.
        count: images of each kind.
    """

    def __init__(
        self,
        folder: Path,
        classes: Sequence[str],
        palette: Sequence[Sequence[int]],
        mean: Sequence[float],
        std: Sequence[float],
        n_val: int,
        count: int = 4,
    ) -> None:
        self.folder, self.n_val, self.count = Path(folder), n_val, count
        self.classes, self.mean, self.std = list(classes), mean, std
        self.palette = [list(map(int, c)) for c in palette]
        # 256 entries; the last is the color of ignored pixels.
        self._lookup = np.full((256, 3), 128, np.uint8)
        self._lookup[: len(self.palette)] = self.palette
        self._lookup[255] = 255
        self._unlabeled: tuple[Any, Any] | None = None
        self._panels: dict[str, np.ndarray] = {}

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Keep the latest weak views with their pseudo-labels."""
        if trainer.is_global_zero and outputs["pseudo"] is not None:
            self._unlabeled = (batch.unlabeled, outputs["pseudo"])

    def on_validation_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Start over, with images spread over the validation list, because adjacent frames of a drive look alike."""
        self._panels, self._seen = {}, 0
        self._stride = max(1, self.n_val // trainer.world_size // max(1, self.count))

    def on_validation_batch_end(self, trainer: pl.Trainer, pl_module: Any, outputs: Any, batch: Any, *_: Any) -> None:
        """Keep images at regular intervals."""
        if not trainer.is_global_zero:
            return
        for group, prediction in zip(batch, outputs):
            if group.images.shape[-2:] != prediction.shape[-2:]:
                continue  # a cropping evaluation: no image of the prediction's size
            for image, label, predicted in zip(group.images, group.labels, prediction):
                number, rest = divmod(self._seen, self._stride)
                self._seen += 1
                if rest == 0 and number < self.count:
                    self._panels |= {
                        f"val_{number}_image": self._rgb(image),
                        f"val_{number}_truth": self._colors(label),
                        f"val_{number}_prediction": self._colors(predicted),
                    }

    def on_validation_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Write the kept images."""
        if trainer.sanity_checking or not trainer.is_global_zero:
            return
        if self._unlabeled is not None:
            views, pseudo = self._unlabeled
            for i in range(min(self.count, len(views.weak))):
                self._panels |= {
                    f"unlabeled_{i}_image": self._rgb(views.weak[i]),
                    f"unlabeled_{i}_pseudo": self._colors(torch.where(views.padded[i], 255, pseudo.labels[i])),
                    f"unlabeled_{i}_confidence": (pseudo.confidence[i].clamp(0, 1) * 255).byte().cpu().numpy(),
                }
                if views.truth is not None:
                    self._panels[f"unlabeled_{i}_truth"] = self._colors(views.truth[i])
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / "classes.json").write_text(json.dumps({"classes": self.classes, "palette": self.palette}))
        for name, pixels in self._panels.items():
            Image.fromarray(pixels).save(self.folder / f"{name}.png")
        self._send(trainer)

    def _send(self, trainer: pl.Trainer) -> None:
        for logger in trainer.loggers:
            if hasattr(logger, "log_image"):  # wandb
                for name, pixels in self._panels.items():
                    logger.log_image(f"panels/{name}", [pixels], step=trainer.global_step)
            elif add_image := getattr(getattr(logger, "experiment", None), "add_image", None):  # tensorboard
                for name, pixels in self._panels.items():
                    form = "HW" if pixels.ndim == 2 else "HWC"
                    add_image(f"panels/{name}", pixels, trainer.global_step, dataformats=form)

    def _rgb(self, image: Tensor) -> np.ndarray:
        scale = image.new_tensor(self.std)[:, None, None], image.new_tensor(self.mean)[:, None, None]
        pixels = (image * scale[0] + scale[1]).clamp(0, 1) * 255
        return as_rgb(pixels.round().byte().permute(1, 2, 0).cpu().numpy())

    def _colors(self, labels: Tensor) -> np.ndarray:
        return self._lookup[labels.clamp(0, 255).byte().cpu().numpy()]
