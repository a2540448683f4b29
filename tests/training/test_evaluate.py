"""Working with a finished run: on another machine, and beside files of the user."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from semiseg.commands.evaluate import main as evaluate
from semiseg.commands.evaluate import table
from semiseg.commands.predict import main as predict
from semiseg.config import compose_config
from semiseg.data.datasets.shapes import Shapes
from semiseg.errors import InputError
from semiseg.training.fit import train
from support.tiny import tiny

OVERRIDES = tiny("diagnostics.panels=0")


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    train(compose_config(OVERRIDES), folder, OVERRIDES)
    return folder


@pytest.mark.skipif(torch.cuda.is_available(), reason="a machine without a GPU is meant")
def test_a_run_of_a_gpu_is_evaluated_without_one(run: Path, tmp_path: Path, capsys, caplog) -> None:
    checkpoint = torch.load(run / "checkpoints/best.ckpt", weights_only=True)
    checkpoint["semiseg"]["config"]["trainer"]["accelerator"] = "gpu"
    torch.save(checkpoint, tmp_path / "gpu.ckpt")
    assert evaluate([f"checkpoint={tmp_path}/gpu.ckpt"]) == 0
    there = capsys.readouterr().out.splitlines()[1:]
    assert "trained with trainer.accelerator=gpu, which is not here: on the CPU" in caplog.text
    caplog.clear()
    assert evaluate([f"run={run}"]) == 0 and capsys.readouterr().out.splitlines()[1:] == there
    assert not caplog.text


@pytest.mark.skipif(torch.cuda.is_available(), reason="a machine without a GPU is meant")
@pytest.mark.parametrize("accelerator", ["gpu", "mps"])
def test_a_device_that_was_asked_for_and_is_not_there_is_refused(accelerator: str, run: Path) -> None:
    if accelerator == "mps" and torch.backends.mps.is_available():
        pytest.skip("it is there")
    with pytest.raises(InputError, match=f"trainer.accelerator={accelerator}: this machine has none"):
        evaluate([f"run={run}", f"trainer.accelerator={accelerator}"])


def test_masks_that_are_all_ignored_are_refused_before_evaluating(run: Path, monkeypatch) -> None:
    monkeypatch.setattr(Shapes, "load_mask", lambda self, image_id: np.full(self.size, 255, np.uint8))
    monkeypatch.setattr("pytorch_lightning.Trainer.validate", lambda *a, **k: pytest.fail("it was evaluated"))
    with pytest.raises(InputError, match="all validation masks are ignored in every pixel"):
        evaluate([f"run={run}"])


@pytest.mark.parametrize(
    "output,told",
    [
        ("there.json", "exists and is not overwritten: choose another file, or add overwrite=true"),
        ("nope/x.json", "no folder"),
        (".", "is a folder"),
    ],
)
def test_an_output_that_cannot_be_is_refused_before_evaluating(
    output: str, told: str, run: Path, tmp_path: Path, monkeypatch
) -> None:
    monkeypatch.setattr("semiseg.training.evaluate.evaluate", lambda *a: pytest.fail("it was evaluated"))
    (tmp_path / "there.json").write_text("mine")
    with pytest.raises(InputError, match=told):
        evaluate([f"run={run}", f"output={tmp_path}/{output}"])
    assert (tmp_path / "there.json").read_text() == "mine"


def test_an_output_is_overwritten_on_request(run: Path, tmp_path: Path) -> None:
    (tmp_path / "there.json").write_text("mine")
    assert evaluate([f"run={run}", f"output={tmp_path}/there.json", "overwrite=true"]) == 0
    assert '"data_fingerprint"' in (tmp_path / "there.json").read_text()


def test_a_photo_is_not_replaced_by_its_mask(run: Path, tmp_path: Path) -> None:
    photo = tmp_path / "O/index/a.png"
    photo.parent.mkdir(parents=True)
    Image.fromarray(np.full((30, 30, 3), 90, np.uint8)).save(photo)
    before = photo.read_bytes()
    for source in (photo.parent, photo):
        with pytest.raises(InputError, match=r"a.png is one of the images to predict|no image below"):
            predict(
                [
                    f"checkpoint={run}/checkpoints/best.ckpt",
                    f"source={source}",
                    f"output={tmp_path}/O",
                    "overwrite=true",
                ]
            )
    assert photo.read_bytes() == before


def test_a_run_whose_list_of_overrides_is_gone_goes_on(run: Path, tmp_path: Path) -> None:
    overrides = tiny("diagnostics.panels=0", "max_steps=4", "val_every=4", "trainer.save_every=1")
    train(compose_config(overrides), tmp_path, overrides)
    for name in ("overrides.yaml", "result.json"):
        (tmp_path / name).unlink()
    assert train(compose_config(overrides), tmp_path, overrides)["status"] == "completed"


@pytest.mark.parametrize("protocol", ["voc/classic_92", "cityscapes/1_16", "shapes/1_8"])
def test_max_steps_alone_is_enough_on_every_protocol(protocol: str) -> None:
    from semiseg.config.settings import read_settings

    settings = read_settings(compose_config([f"data={protocol.split('/')[0]}", f"protocol={protocol}", "max_steps=7"]))
    assert settings.max_steps == 7
    epochs = read_settings(compose_config(["epochs=2"]))
    assert (epochs.max_steps, epochs.epochs) == (None, 2)


def test_the_summary_says_that_epochs_give_way(tmp_path: Path, caplog) -> None:
    caplog.set_level("INFO")
    both = [*OVERRIDES, "epochs=3"]
    train(compose_config(both), tmp_path, both)
    assert "2, max_steps; overrides the protocol's epochs=3" in caplog.text


def test_the_table_names_the_network_of_its_classes() -> None:
    scores = {
        "checkpoint": "best.ckpt", "step": 4, "protocol": "shapes/1_8", "split": "val", "n_images": 2,
        "iou_per_class": {"a": 0.5}, "pixel_accuracy": 0.75, "miou": {"student": 0.25, "teacher": 0.5},
    }  # fmt: skip
    assert table(scores).splitlines() == [
        "best.ckpt (step 4) on shapes/1_8, split val, 2 images; classes and pixel accuracy of the teacher",
        "  a                50.00", "  pixel accuracy   75.00", "  mIoU student     25.00", "  mIoU teacher     50.00",
    ]  # fmt: skip
    assert table(scores | {"miou": {"student": 0.5}}).splitlines()[0].endswith("split val, 2 images")
