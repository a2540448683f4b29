"""diagnostics.json: confusion matrix, calibration and worst images of the last validation, for the report."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pytorch_lightning as pl
import torch
from PIL import Image
from torch import Tensor, nn
from torch import distributed as dist

from semiseg.data.batch import IGNORE
from semiseg.data.readers.bands import as_rgb
from semiseg.inference import Inference
from semiseg.ops.distributed import is_distributed, total
from semiseg.runs.files import write_json
from semiseg.runs.folder import RunFolder

N_BINS = 200
"""Confidence bins in [0, 1]: thresholds have a resolution of 0.005."""

_UNITS = 2**16  # confidences are summed as integers: exact, and the same on every device
_SIDE = 960  # pixels of the longer side of a picture
_WRONG = (230, 40, 40)


class _Worst(NamedTuple):
    """A candidate: its share of wrong pixels, its id, and pictures by part."""

    error: float
    image_id: str
    pictures: dict[str, np.ndarray]


class Diagnostics(pl.Callback):
    """Collects statistics in the last validation of a run, or in a standalone validation, and writes them.

    ``diagnostics.json`` contains ``classes``, ``confusion`` (rows: labels, columns: predictions), ``calibration`` (by
    confidence bin: ``pixels``, ``correct``, ``confidence_sum``) and ``worst``: ids and shares of wrong pixels, with
    pictures in ``images/worst_<rank>_<image|truth|prediction|errors>.png``. All counts cover labeled pixels and the
    reported network.

    Earlier validations cost nothing. In the last one the host synchronizes once per batch to find the worst images.

    Args:
        folder: the run folder.
        palette: (R, G, B) colors of the classes.
        mean, std: normalization to undo.
        count: worst images to keep.
    """

    def __init__(
        self,
        folder: RunFolder,
        palette: Sequence[Sequence[int]],
        mean: Sequence[float],
        std: Sequence[float],
        count: int = 6,
    ) -> None:
        self.folder, self.mean, self.std, self.count = folder, mean, std, count
        self._lookup = np.full((256, 3), 128, np.uint8)
        self._lookup[: len(palette)] = np.array(palette, np.uint8).reshape(-1, 3)
        self._lookup[IGNORE] = 255
        self._recorder: _Recorder | None = None

    def on_validation_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Begin, if this is the last validation."""
        if trainer.sanity_checking or (trainer.state.fn == "fit" and trainer.global_step < trainer.max_steps):
            return
        self._network, reported = list(pl_module.evaluated().items())[-1]
        self._recorder = pl_module.inference = _Recorder(pl_module.inference, reported)
        self._bins = torch.zeros(3, N_BINS + 1, dtype=torch.long, device=pl_module.device)
        self._worst: list[_Worst] = []
        self._n_images = torch.zeros((), dtype=torch.long, device=pl_module.device)

    def on_validation_batch_end(self, trainer: pl.Trainer, pl_module: Any, outputs: Any, batch: Any, *_: Any) -> None:
        """Count a batch and keep its images if they are among the worst."""
        if self._recorder is None:
            return
        for group, prediction, confidence in zip(batch, outputs, self._recorder.take(), strict=True):
            crop = pl_module.inference.crop_labels  # crops images like labels
            images, labels = crop(group.images), crop(group.labels)
            valid, right = labels != IGNORE, prediction == labels
            self._count(confidence, valid, right)
            wrong = (valid & ~right).flatten(1).sum(1) / valid.flatten(1).sum(1).clamp(min=1)
            self._n_images += len(labels)
            for i, error in enumerate(wrong.tolist()):
                if error > 0 and (len(self._worst) < self.count or error > self._worst[-1].error):
                    pictures = self._pictures(images[i], labels[i], prediction[i])
                    self._worst.append(_Worst(error, group.ids[i], pictures))
                    self._worst = sorted(self._worst, key=_worst_first)[: self.count]

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Merge the counts of all processes, before the method resets its metric."""
        if self._recorder is None:
            return
        confusion = total(pl_module.metrics[self._network].matrix)
        pixels, correct, units = total(self._bins)[:, :N_BINS].tolist()
        n_images = int(total(self._n_images))
        worst = sorted((w for part in _all_gathered(self._worst) for w in part), key=_worst_first)[: self.count]
        if not trainer.is_global_zero:
            return
        self._write_pictures(worst)
        found = {
            "step": trainer.global_step,
            "network": self._network,
            "n_images": n_images,
            "classes": list(pl_module.classes),
            "confusion": confusion.tolist(),
            "calibration": {
                "pixels": pixels,
                "correct": correct,
                "confidence_sum": [round(sum_ / _UNITS, 3) for sum_ in units],
            },
            "worst": [{"id": w.image_id, "error": round(w.error, 6)} for w in worst],
        }
        write_json(self.folder.diagnostics, found)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Restore the method's own inference."""
        if self._recorder is not None:
            pl_module.inference, self._recorder = self._recorder.inner, None

    def on_exception(self, trainer: pl.Trainer, pl_module: Any, exception: BaseException) -> None:
        """Clean up as after a validation."""
        self.on_validation_end(trainer, pl_module)

    def _count(self, confidence: Tensor, valid: Tensor, right: Tensor) -> None:
        index = (confidence * N_BINS).long().clamp(0, N_BINS - 1)
        index = torch.where(valid, index, N_BINS).flatten()  # the extra last bin collects ignored pixels
        units = (confidence * _UNITS).round().long().flatten()
        for row, values in enumerate((torch.ones_like(units), right.flatten().long(), units)):
            self._bins[row].scatter_add_(0, index, values)

    def _pictures(self, image: Tensor, labels: Tensor, prediction: Tensor) -> dict[str, np.ndarray]:
        masks = {name: mask.clamp(0, 255).byte().cpu().numpy() for name, mask in (("t", labels), ("p", prediction))}
        std, mean = (image.new_tensor(values)[:, None, None] for values in (self.std, self.mean))
        rgb = as_rgb(((image * std + mean).clamp(0, 1) * 255).round().byte().permute(1, 2, 0).cpu().numpy())
        gray = np.repeat(rgb.mean(2, keepdims=True), 3, axis=2)
        errors = gray.astype(np.uint8)
        errors[masks["t"] != masks["p"]] = _WRONG
        errors[masks["t"] == IGNORE] = 255
        overlay = (0.4 * gray + 0.6 * self._lookup[masks["p"]]).astype(np.uint8)
        return {"image": rgb, "truth": self._lookup[masks["t"]], "prediction": overlay, "errors": errors}

    def _write_pictures(self, worst: Sequence[_Worst]) -> None:
        images = self.folder.images
        images.mkdir(parents=True, exist_ok=True)
        for old in images.glob("worst_*.png"):
            old.unlink()
        for rank, found in enumerate(worst):
            for part, pixels in found.pictures.items():
                picture = Image.fromarray(pixels)
                if max(picture.size) > _SIDE:
                    scale = _SIDE / max(picture.size)
                    size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
                    picture = picture.resize(
                        size, Image.Resampling.BOX if part == "image" else Image.Resampling.NEAREST
                    )
                picture.save(images / f"worst_{rank}_{part}.png")


class _Recorder:
    """An inference wrapper that records the confidence of every pixel, (B, H, W) in [0, 1], of one network."""

    def __init__(self, inner: Inference, network: nn.Module) -> None:
        self.inner, self.network = inner, network
        self._kept: list[Tensor] = []

    def __call__(self, network: nn.Module, images: Tensor) -> Tensor:
        probabilities = self.inner(network, images)
        if network is self.network:
            self._kept.append(probabilities.amax(1))
        return probabilities

    def crop_labels(self, labels: Tensor) -> Tensor:
        return self.inner.crop_labels(labels)

    def take(self) -> list[Tensor]:
        """The values recorded since the last call, in order."""
        kept, self._kept = self._kept, []
        return kept


def _worst_first(candidate: _Worst) -> tuple[float, str]:
    return -candidate.error, candidate.image_id


def _all_gathered(own: list[_Worst]) -> list[list[_Worst]]:
    """The candidates of every process."""
    if not is_distributed():
        return [own]
    found: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(found, own)
    return found
