"""The Python interface."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import semiseg
from semiseg.api.runs import written
from semiseg.config import compose_config
from semiseg.errors import InputError
from support.tiny import OPTIONS


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> semiseg.Run:
    folder = tmp_path_factory.mktemp("api")
    return semiseg.train("shapes", "mean_teacher", max_steps=2, runs=folder / "runs", options=OPTIONS)


@pytest.fixture
def photo() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (40, 30, 3), dtype=np.uint8)


@pytest.mark.cli
def test_importing_loads_nothing() -> None:
    code = "import sys, semiseg; sys.exit(any(m in sys.modules for m in ('torch', 'numpy', 'hydra', 'pydantic')))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_every_public_name_is_there_and_documented() -> None:
    assert set(semiseg.__all__) <= set(dir(semiseg))
    for name in semiseg.__all__:
        assert name == "__version__" or getattr(semiseg, name).__doc__, name
    with pytest.raises(AttributeError, match="no attribute 'trian'"):
        semiseg.trian  # noqa: B018


def test_the_methods_are_listed_whatever_was_imported_before() -> None:
    import semiseg.methods.unimatch as module

    assert module.UniMatch
    found = semiseg.methods()
    assert found["unimatch"].venue == "CVPR 2023" and found["unimatch"].source == "arXiv 2208.09910"
    assert {"supervised", "mean_teacher"} <= set(found)


def test_a_run_lies_where_the_command_line_puts_it_and_is_not_trained_twice(run) -> None:
    assert run["status"] == "completed" and run["method"] == "mean_teacher" and run["steps"] == 2
    folder = Path(run["folder"])
    assert folder.relative_to(folder.parents[5]).as_posix().startswith("default/shapes/1_8/mean_teacher/tiny/seed_0_")
    assert (folder / "checkpoints/best.ckpt").exists()
    again = semiseg.train("shapes", "mean_teacher", max_steps=2, runs=folder.parents[5], options=OPTIONS)
    assert again == run


def test_evaluate_gives_the_scores_of_the_run(run) -> None:
    scores = semiseg.evaluate(run, which="last")
    assert scores["miou"]["teacher"] == pytest.approx(run["miou"]["last_teacher"])
    assert semiseg.evaluate(run["folder"], options={"eval": "sliding", "eval.window": [24, 24]})["eval"]["window"]


def test_report_writes_the_page(run, tmp_path: Path) -> None:
    found = semiseg.report(run["folder"], output=tmp_path / "page.html")
    assert (tmp_path / "page.html").exists() and "mean_teacher" in found.text


def test_predict_takes_files_pictures_and_arrays(run, photo: np.ndarray, tmp_path: Path) -> None:
    Image.fromarray(photo).save(tmp_path / "a.png")
    model = semiseg.load(run)
    mask = model.predict(photo)
    assert mask.shape == (40, 30) and mask.dtype == np.uint8 and mask.max() < len(model.classes)
    for same in (tmp_path / "a.png", str(tmp_path / "a.png"), Image.fromarray(photo)):
        assert np.array_equal(model.predict(same), mask)
    masks = model.predict([photo, photo[:20]])
    assert [m.shape for m in masks] == [(40, 30), (20, 30)] and np.array_equal(masks[0], mask)
    probabilities = model.probabilities(photo)
    assert probabilities.shape == (len(model.classes), 40, 30)
    np.testing.assert_allclose(probabilities.sum(0), 1, atol=1e-5)
    assert np.array_equal(probabilities.argmax(0), mask)
    assert "7 classes" in repr(model)


def test_load_takes_a_folder_and_a_checkpoint_and_chooses_the_network(run, photo: np.ndarray) -> None:
    teacher = semiseg.load(run["folder"], which="last")
    file = Path(run["folder"]) / "checkpoints/last.ckpt"
    assert teacher.checkpoint == file and np.array_equal(teacher.predict(photo), semiseg.load(file).predict(photo))
    student = semiseg.load(file, network="student", device="cpu")
    weights = [next(m.predictor.network.parameters()) for m in (student, teacher)]
    assert not weights[0].equal(weights[1])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: semiseg.train("nowhere"), "data='nowhere': no such folder, and no such data set"),
        (lambda: semiseg.train(method="unimach"), "did you mean 'unimatch'"),
        (lambda: semiseg.train(options={"optim.lrr": 1}), "optim.lr"),
        (lambda: semiseg.train(options={"method": "cps"}), "is an argument of train"),
        (lambda: semiseg.load("nowhere"), "checkpoint nowhere does not exist"),
        (lambda: semiseg.load("x", which="worst"), "allowed: best, last"),
        (lambda: semiseg.load("hf://name"), "expected hf://OWNER/NAME"),
    ],
)
def test_wrong_input_says_what_is_allowed(call, message: str, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=message):
        call()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("image", [np.zeros((3, 4), np.uint8), np.zeros((3, 4, 3)), np.zeros((3, 4, 4), np.uint8)])
def test_what_is_no_image_is_refused(image: np.ndarray, run) -> None:
    with pytest.raises(InputError, match=r"expected \(H, W, 3\) uint8"):
        semiseg.load(run).predict(image)


def test_a_folder_of_photos_is_data(tmp_path: Path) -> None:
    assert semiseg.api.runs._data(tmp_path) == {"data": "folder", "data.root": tmp_path}


def test_values_arrive_as_they_are() -> None:
    given = {"study": "a, b", "optim.lr": 1e-3, "crop_size": [64, 48], "overwrite": True, "max_steps": None}
    cfg = compose_config(written(given))
    assert (cfg.study, cfg.optim.lr, list(cfg.crop_size), cfg.overwrite) == ("a, b", 1e-3, [64, 48], True)
