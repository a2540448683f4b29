from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from semiseg.dashboard.read.diagnostics import read_diagnostics
from semiseg.inference import CenterCrop, Whole, most_probable
from semiseg.metrics.confusion import ConfusionMatrix
from semiseg.runs.folder import RunFolder
from semiseg.training.callbacks.diagnostics import N_BINS, Diagnostics
from support.helpers import CLASSES, PixelModel, two_processes

C, SIZE = len(CLASSES), (9, 13)
PALETTE = [(0, 0, 0), (200, 0, 0), (0, 200, 0), (0, 0, 200)]


class Module:
    """What the callback sees of a method."""

    device = torch.device("cpu")
    classes = CLASSES

    def __init__(self, inference) -> None:
        torch.manual_seed(0)
        self.networks = {"student": PixelModel(scale=9.0), "teacher": PixelModel(scale=3.0)}
        self.inference = inference
        self.metrics = {name: ConfusionMatrix(C) for name in self.networks}

    def evaluated(self):
        return self.networks

    def validation_step(self, batch):
        predictions = []
        for group in batch:
            labels = self.inference.crop_labels(group.labels)
            for name, network in self.networks.items():
                prediction = most_probable(self.inference(network, group.images))
                self.metrics[name].update(prediction, labels)
            predictions.append(prediction)
        return predictions


def batches():
    """Two batches, the second with images of two sizes; some pixels ignored, one image without a label."""
    torch.manual_seed(1)
    groups = []
    for first, (n, h, w) in enumerate([(3, *SIZE), (2, *SIZE), (1, 6, 5)]):
        labels = torch.randint(0, C, (n, h, w))
        labels[:, 0] = 255
        if first == 1:
            labels[1] = 255
        ids = [f"image_{first}_{i}" for i in range(n)]
        groups.append(SimpleNamespace(images=torch.randn(n, 3, h, w), labels=labels, ids=ids))
    return [[groups[0]], groups[1:]]


def validate(callback, module, *, step=10, max_steps=10, fn="fit"):
    trainer = SimpleNamespace(
        sanity_checking=False, state=SimpleNamespace(fn=fn), global_step=step, max_steps=max_steps, is_global_zero=True
    )
    callback.on_validation_start(trainer, module)
    for i, batch in enumerate(batches()):
        callback.on_validation_batch_end(trainer, module, module.validation_step(batch), batch, i)
    callback.on_validation_epoch_end(trainer, module)
    callback.on_validation_end(trainer, module)


def made(tmp_path: Path, inference=None, **kwargs):
    module = Module(inference or Whole())
    callback = Diagnostics(RunFolder(tmp_path), PALETTE, (0.5,) * 3, (0.25,) * 3, **kwargs)
    validate(callback, module)
    return module, read_diagnostics(tmp_path / "diagnostics.json", [])


def test_counts_are_those_of_a_loop_over_pixels(tmp_path: Path) -> None:
    module, found = made(tmp_path)
    confusion, pixels = np.zeros((C, C), int), np.zeros(N_BINS, int)
    correct, confidence_sum, errors = np.zeros(N_BINS, int), np.zeros(N_BINS), {}
    for group in (group for batch in batches() for group in batch):
        probabilities = Whole()(module.networks["teacher"], group.images)
        for image_id, label, probs in zip(group.ids, group.labels, probabilities):
            wrong = counted = 0
            for y in range(label.shape[0]):
                for x in range(label.shape[1]):
                    true = int(label[y, x])
                    if true == 255:
                        continue
                    confidence, predicted = float(probs[:, y, x].max()), int(probs[:, y, x].argmax())
                    index = min(int(np.float32(confidence) * np.float32(N_BINS)), N_BINS - 1)
                    confusion[true, predicted] += 1
                    pixels[index] += 1
                    correct[index] += true == predicted
                    confidence_sum[index] += confidence
                    wrong += true != predicted
                    counted += 1
            errors[image_id] = wrong / max(counted, 1)
    np.testing.assert_array_equal(found.confusion, confusion)
    np.testing.assert_array_equal(found.counts, pixels)
    np.testing.assert_array_equal(found.correct, correct)
    np.testing.assert_allclose(found.confidence, confidence_sum, atol=1e-2)
    expected = sorted((image_id for image_id in errors if errors[image_id]), key=lambda i: (-errors[i], i))
    assert [w.image_id for w in found.worst] == expected[:6]
    assert [w.error for w in found.worst] == pytest.approx([errors[i] for i in expected[:6]], abs=1e-6)
    assert (found.step, found.network, found.n_images, found.classes) == (10, "teacher", 6, CLASSES)


def test_pictures_show_what_is_wrong_and_what_is_ignored(tmp_path: Path) -> None:
    module, found = made(tmp_path, count=1)
    (worst,) = found.worst
    group = next(g for batch in batches() for g in batch if worst.image_id in g.ids)
    i = group.ids.index(worst.image_id)
    prediction = most_probable(Whole()(module.networks["teacher"], group.images))[i].numpy()
    label = group.labels[i].numpy()
    pictures = {part: np.array(Image.open(path)) for part, path in worst.pictures.items()}
    assert set(pictures) == {"image", "truth", "prediction", "errors"}
    assert (pictures["errors"][label == 255] == 255).all()
    assert ((pictures["errors"] == (230, 40, 40)).all(2) == ((label != prediction) & (label != 255))).all()
    assert (pictures["truth"][label == 1] == PALETTE[1]).all()
    assert not (tmp_path / "images" / "worst_1_image.png").exists()


def test_earlier_validations_cost_nothing_and_leave_the_method_alone(tmp_path: Path) -> None:
    module = Module(Whole())
    inference = module.inference
    callback = Diagnostics(RunFolder(tmp_path), PALETTE, (0.5,) * 3, (0.25,) * 3)
    validate(callback, module, step=5)
    assert list(tmp_path.iterdir()) == []
    validate(callback, module, step=10)
    assert (tmp_path / "diagnostics.json").exists() and module.inference is inference
    (tmp_path / "diagnostics.json").unlink()
    validate(callback, module, step=5, fn="validate")  # a validation on its own is the last one
    assert (tmp_path / "diagnostics.json").exists()


def test_a_failure_gives_the_method_its_inference_back(tmp_path: Path) -> None:
    module = Module(Whole())
    inference = module.inference
    callback = Diagnostics(RunFolder(tmp_path), PALETTE, (0.5,) * 3, (0.25,) * 3)
    trainer = SimpleNamespace(sanity_checking=False, state=SimpleNamespace(fn="fit"), global_step=1, max_steps=1)
    callback.on_validation_start(trainer, module)
    assert module.inference is not inference
    callback.on_exception(trainer, module, RuntimeError())
    assert module.inference is inference


def test_a_cropping_evaluation_counts_the_crop(tmp_path: Path) -> None:
    _, found = made(tmp_path, CenterCrop((4, 5)))
    assert found.confusion.sum() == sum(
        int((CenterCrop((4, 5)).crop_labels(group.labels) != 255).sum()) for batch in batches() for group in batch
    )
    assert found.counts.sum() == found.confusion.sum()
    assert Image.open(tmp_path / "images" / "worst_0_image.png").size in {(5, 4), (4, 5), (5, 5)}


def _validate_share(rank: int, folder: str) -> None:
    module = Module(Whole())
    trainer = SimpleNamespace(
        sanity_checking=False, state=SimpleNamespace(fn="fit"), global_step=1, max_steps=1, is_global_zero=rank == 0
    )
    callback = Diagnostics(RunFolder(Path(folder)), PALETTE, (0.5,) * 3, (0.25,) * 3)
    callback.on_validation_start(trainer, module)
    batch = batches()[rank]
    callback.on_validation_batch_end(trainer, module, module.validation_step(batch), batch, 0)
    callback.on_validation_epoch_end(trainer, module)


@pytest.mark.ddp
def test_two_processes_find_what_one_finds(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    made(tmp_path / "one")
    two_processes(_validate_share, str(tmp_path / "two"))
    one, two = (json.loads((tmp_path / name / "diagnostics.json").read_text()) for name in ("one", "two"))
    assert one | {"step": 1} == two
    images = sorted(path.name for path in (tmp_path / "one" / "images").iterdir())
    for name in images:
        assert (tmp_path / "one/images" / name).read_bytes() == (tmp_path / "two/images" / name).read_bytes()
