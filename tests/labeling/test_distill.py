"""``semiseg distill``: pseudo-labels once, an ordinary run, and both networks side by side."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

import semiseg
from semiseg.commands import distill as command
from semiseg.config import compose_config
from semiseg.config.stored import plain
from semiseg.data.readers.masks import read_index_mask
from semiseg.errors import InputError
from semiseg.labeling.distill import taken_over
from semiseg.training.callbacks.step_watch import StepWatch
from support.own_photos import write_photos

pytestmark = pytest.mark.filterwarnings("ignore")
OPTIONS = {
    "crop_size": [32, 32], "batch.labeled": 2, "batch.unlabeled": 2, "val_every": 2, "trainer": "debug",
    "loader.num_workers": 0, "model.width": 8, "study": "photos",
}  # fmt: skip
STUDENT = ["model=tiny", "model.width=4", "threshold=0.35"]


@pytest.fixture(scope="module")
def teacher(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("distill")
    photos = write_photos(folder / "my_data", 4)
    run = semiseg.train(photos, "mean_teacher", model="tiny", max_steps=4, runs=folder / "runs", options=OPTIONS)
    return Path(run["folder"])


@pytest.fixture
def copied(teacher: Path, tmp_path: Path) -> Path:
    """The run in a place of its own."""
    below = teacher.relative_to(teacher.parents[5])
    return shutil.copytree(teacher, tmp_path / "runs" / below)


def student_of(runs: Path) -> Path:
    (found,) = (runs / "photos/folder/all_pseudo/supervised/tiny").iterdir()
    return found


def test_a_student_is_taught_and_compared(copied: Path, tmp_path: Path, capsys) -> None:
    assert command.main([f"run={copied}", *STUDENT]) == 0
    told = capsys.readouterr().out
    student = student_of(tmp_path / "runs")
    result = json.loads((student / "result.json").read_text())
    stored = json.loads((student / "distill.json").read_text())
    assert result["status"] == "completed" and result["steps"] == 4 and result["method"] == "supervised"
    assert (result["n_labeled"], result["n_unlabeled"], result["official"]) == (4, 6, None)
    labels = result["pseudo_labels"]
    assert labels["run"] == "folder/all/mean_teacher/tiny/" + copied.name and labels["threshold"] == 0.35
    assert labels == stored["pseudo_labels"] and len(labels["checkpoint_sha256"]) == 64
    assert any(labels["checkpoint_sha256"][:8] in line for line in result["data_warnings"])
    for name in ("teacher", "student"):
        assert stored[name]["parameters"] > 0 and stored[name]["ms_per_image"] > 0 and name in told
    assert stored["student"]["parameters"] < stored["teacher"]["parameters"]
    teacher_result = json.loads((copied / "result.json").read_text())
    assert stored["teacher"]["miou"] == pytest.approx(teacher_result["miou"]["best"])
    assert stored["student"]["miou"] == pytest.approx(result["miou"]["best"])
    assert result["validation_fingerprint"] == teacher_result["validation_fingerprint"]
    assert result["data_fingerprint"] != teacher_result["data_fingerprint"]
    assert labels["checkpoint_sha256"][:8] in semiseg.report(student, output=tmp_path / "report.html").html.read_text()


def test_the_masks_are_those_of_the_sure_pixels(copied: Path, tmp_path: Path) -> None:
    command.main([f"run={copied}", *STUDENT])
    (folder,) = (tmp_path / "runs/photos/pseudo_labels").iterdir()
    model, record = semiseg.load(copied), json.loads((folder / "pseudo_labels.json").read_text())
    root = Path(json.loads((copied / "data.json").read_text())["root"])
    assert len(record["asked"]) == 6 and set(record["ids"]) <= set(record["asked"])
    shares = []
    for image_id in record["asked"]:
        probs = model.probabilities(root / "images" / f"{image_id}.png")
        expected = probs.argmax(0)
        expected[probs.max(0) < 0.35] = 255
        np.testing.assert_array_equal(read_index_mask(folder / "masks" / f"{image_id}.png"), expected)
        shares.append((expected != 255).mean())
    assert record["share"] == pytest.approx(np.mean(shares))


def test_labels_are_made_once_and_the_run_is_found_again(copied: Path, tmp_path: Path) -> None:
    command.main([f"run={copied}", *STUDENT])
    before = {p: os.stat(p).st_mtime_ns for p in (tmp_path / "runs/photos/pseudo_labels").rglob("*")}
    result = (student_of(tmp_path / "runs") / "result.json").read_bytes()
    command.main([f"run={copied}", *STUDENT])
    assert before == {p: os.stat(p).st_mtime_ns for p in (tmp_path / "runs/photos/pseudo_labels").rglob("*")}
    assert (student_of(tmp_path / "runs") / "result.json").read_bytes() == result


def test_an_interrupted_student_goes_on_bit_exactly(copied: Path, tmp_path: Path, monkeypatch) -> None:
    arguments = [f"run={copied}", *STUDENT, "trainer.save_every=1"]
    command.main([*arguments, "study=whole"])
    whole = tmp_path / "runs/whole"
    (whole_run,) = (whole / "folder/all_pseudo/supervised/tiny").iterdir()
    original = StepWatch.on_train_batch_end

    def stop(self, trainer, *args, **kwargs):
        original(self, trainer, *args, **kwargs)
        if trainer.global_step == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(StepWatch, "on_train_batch_end", stop)
    with pytest.raises(KeyboardInterrupt):
        command.main([*arguments, "study=parts"])
    monkeypatch.undo()
    command.main([*arguments, "study=parts"])
    (parts_run,) = (tmp_path / "runs/parts/folder/all_pseudo/supervised/tiny").iterdir()
    states = [torch.load(r / "checkpoints/last.ckpt", weights_only=True) for r in (whole_run, parts_run)]
    assert states[0]["global_step"] == states[1]["global_step"] == 4
    for key, value in states[0]["state_dict"].items():
        assert torch.equal(value, states[1]["state_dict"][key]), key


def test_changed_masks_are_noticed(copied: Path, tmp_path: Path) -> None:
    command.main([f"run={copied}", *STUDENT])
    student = student_of(tmp_path / "runs")
    assert semiseg.evaluate(student)["protocol"] == "folder/all_pseudo"
    mask = next((tmp_path / "runs/photos/pseudo_labels").rglob("*.png"))
    mask.write_bytes(mask.read_bytes() + b"0")
    with pytest.raises(InputError, match="the masks were changed since they were made"):
        semiseg.evaluate(student)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["model=tiny", "threshold=1"], "sure of no pixel"),
        ([], "model=NAME is missing"),
        (["model=tinny"], "did you mean 'tiny'"),
        (["model=tiny", "method=unimatch"], "method is supervised here"),
        (["model=tiny", "optim.lrr=1"], "optim.lr"),
        (["model=tiny", "export=coreml"], "onnx"),
    ],
)
def test_wrong_input_says_what_is_allowed(given: list[str], message: str, copied: Path) -> None:
    with pytest.raises(InputError, match=message):
        command.main([f"run={copied}", *given])


@pytest.mark.parametrize(
    "overrides",
    [
        ["data=shapes", "protocol=shapes/1_16", "method=fixmatch", "data.n_train=20", "seed=3", "study=a, b"],
        ["experiment=unimatch/cityscapes", "data.root=/x"],
        ["experiment=unimatch/voc", "data.root=/x", "eval=sliding", "eval.stride=0.5"],
        [
            "data=shapes",
            "loss=focal",
            "loss.gamma=1",
            "epochs=3",
            "batch.labeled=2",
            "protocol.count=4",
            "protocol.fraction=null",
        ],
    ],
)
def test_the_student_has_the_data_length_and_evaluation_of_the_teacher(overrides: list[str]) -> None:
    theirs = plain(compose_config(overrides))
    ours = plain(compose_config([*taken_over(theirs), "method=supervised", "model=tiny"]))
    for section in (
        "data",
        "protocol",
        "crop_size",
        "max_steps",
        "epochs",
        "val_every",
        "seed",
        "study",
        "loss",
        "eval",
        "trainer",
        "loader",
    ):
        assert ours[section] == theirs[section], section
    assert ours["batch"]["labeled"] == theirs["batch"]["labeled"]
