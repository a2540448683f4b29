"""``semiseg next``: ranking, the folder it writes, and the way back through ``semiseg data import``."""

from __future__ import annotations

import csv
import dataclasses
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import semiseg
from semiseg.commands import data_import
from semiseg.commands import next as command
from semiseg.data.datasets.folder import Folder
from semiseg.errors import InputError
from semiseg.labeling.ranking import choose, measures_for
from semiseg.labeling.signals import Signals
from support.own_photos import CLASSES, COLORS, write_photos

pytestmark = pytest.mark.filterwarnings("ignore")
OPTIONS = {
    "crop_size": [32, 32], "batch.labeled": 2, "batch.unlabeled": 2, "val_every": 2, "trainer": "debug",
    "loader.num_workers": 0, "model.width": 4, "model": "tiny",
}  # fmt: skip


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> tuple[Path, Path]:
    """A run folder, and the photos it was trained on: 4 of 10 labeled."""
    folder = tmp_path_factory.mktemp("next")
    photos = write_photos(folder / "my_data", 4)
    options = {k: v for k, v in OPTIONS.items() if k != "model"}
    run = semiseg.train(photos, "mean_teacher", model="tiny", max_steps=2, runs=folder / "runs", options=options)
    return Path(run["folder"]), photos


def ranking(folder: Path) -> list[dict[str, str]]:
    with (folder / "ranking.csv").open() as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("score", ["combined", "entropy", "margin", "disagreement", "views", "diversity", "random"])
def test_every_score_chooses_unlabeled_images_and_says_why(trained, tmp_path: Path, score: str) -> None:
    run, _ = trained
    arguments = [f"run={run}", "count=3", f"score={score}", "threshold=0.2"]
    assert command.main([*arguments, f"output={tmp_path / 'a'}"]) == 0
    assert command.main([*arguments, f"output={tmp_path / 'b'}"]) == 0
    rows = ranking(tmp_path / "a")
    assert [row["rank"] for row in rows] == ["1", "2", "3"] and all(row["why"] for row in rows)
    chosen = {row["image"] for row in rows}
    assert len(chosen) == 3 and chosen <= {f"train/train{i}" for i in range(4, 10)}
    for name in ("ranking.csv", "sheet.html", "classes.yaml"):
        first, second = ((tmp_path / side / name).read_bytes() for side in "ab")
        assert first == second, f"{name} differs between two calls"
    assert len(list((tmp_path / "a/images/train").iterdir())) == 6  # three photos, three files of labelme


@pytest.mark.parametrize("form", ["labelme", "png"])
def test_corrected_masks_come_back_by_data_import(trained, tmp_path: Path, form: str) -> None:
    run, photos = trained
    to_label, labeled = tmp_path / "to_label", tmp_path / "labeled"
    assert command.main([f"run={run}", "count=2", f"format={form}", "threshold=0", f"output={to_label}"]) == 0
    assert data_import.main([str(to_label), f"output={labeled}", "blank=ignore"]) == 0
    mine = shutil.copytree(photos, tmp_path / "my_data")
    shutil.copytree(labeled / "masks", mine / "masks", dirs_exist_ok=True)  # as the docs say
    found = Folder(mine)
    assert not found.strays()
    assert found.classes == CLASSES and found.palette == Folder(photos).palette
    model = semiseg.load(run)
    for row in ranking(to_label):
        image_id = row["image"]
        assert found.has_mask(image_id) and not Folder(photos).has_mask(image_id)
        np.testing.assert_array_equal(
            Image.open(next((labeled / "images").glob(f"{image_id}.*"))), found.load_image(image_id)
        )
        mask, expected = found.load_mask(image_id), model.predict(found.load_image(image_id))
        if form == "png":
            np.testing.assert_array_equal(mask, expected)
        else:
            assert (mask == expected).mean() > 0.9  # outlines of the specks of an untrained network


@pytest.mark.parametrize("form", ["labelme", "png"])
@pytest.mark.parametrize("colors", [True, False], ids=["colors", "names"])
def test_masks_go_back_to_a_class_file_that_begins_with_an_ignored_entry(
    trained, tmp_path: Path, form: str, colors: bool
) -> None:
    run, photos = trained
    mine = shutil.copytree(photos, tmp_path / "my_data")
    entries = ["- {name: void, ignore: true}\n"]
    entries += [f"- {{name: {c}{f', color: {list(rgb)}' if colors else ''}}}\n" for c, rgb in zip(CLASSES, COLORS)]
    (mine / "classes.yaml").write_text("".join(entries))
    for path in (mine / "masks").rglob("*.png"):
        Image.fromarray(np.array(Image.open(path)) + 1).save(path)
    given = [f"run={run}", f"data.root={mine}", "count=1", f"format={form}", "threshold=0"]
    assert command.main([*given, f"output={tmp_path / 'to_label'}"]) == 0
    assert data_import.main([str(tmp_path / "to_label"), f"output={tmp_path / 'labeled'}", "blank=ignore"]) == 0
    shutil.copytree(tmp_path / "labeled/masks", mine / "masks", dirs_exist_ok=True)
    found, image_id = Folder(mine), ranking(tmp_path / "to_label")[0]["image"]
    expected = semiseg.load(run).predict(found.load_image(image_id))
    assert (found.load_mask(image_id) == expected).mean() > 0.9


def test_unsure_pixels_are_blank(trained, tmp_path: Path) -> None:
    run, _ = trained
    command.main([f"run={run}", "count=2", "format=png", "threshold=1", f"output={tmp_path / 'a'}"])
    masks = [np.asarray(Image.open(path)) for path in (tmp_path / "a/masks").rglob("*.png")]
    assert len(masks) == 2 and all((mask == 255).all() for mask in masks)
    assert data_import.main([str(tmp_path / "a"), f"output={tmp_path / 'b'}", "blank=ignore"]) == 0


def test_files_of_the_user_are_never_overwritten(trained, tmp_path: Path) -> None:
    run, photos = trained
    before = {path: path.read_bytes() for path in photos.rglob("*") if path.is_file()}
    (tmp_path / "there").mkdir()
    (tmp_path / "there/mine.txt").write_text("mine")
    for output in (tmp_path / "there", tmp_path / "there/mine.txt", photos):
        with pytest.raises(InputError, match="exists and is not overwritten"):
            command.main([f"run={run}", "count=2", f"output={output}"])
    with pytest.raises(InputError, match=r"inside the data folder .* which is only read"):
        command.main([f"run={run}", "count=2", f"output={photos / 'images/next'}"])
    (tmp_path / "empty").mkdir()
    assert command.main([f"run={run}", "count=1", f"output={tmp_path / 'empty'}"]) == 0
    assert before == {path: path.read_bytes() for path in photos.rglob("*") if path.is_file()}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty", "there"]


def test_images_labeled_since_are_left_out(trained, tmp_path: Path, capsys) -> None:
    run, photos = trained
    moved = shutil.copytree(photos, tmp_path / "my_data")
    for i in range(4, 9):
        shutil.copy(moved / "masks/train/train0.png", moved / f"masks/train/train{i}.png")
    root = f"data.root={moved}"
    assert command.main([f"run={run}", root, "count=5", f"output={tmp_path / 'a'}"]) == 0
    assert [row["image"] for row in ranking(tmp_path / "a")] == ["train/train9"]
    shutil.copy(moved / "masks/train/train0.png", moved / "masks/train/train9.png")
    with pytest.raises(InputError, match="no image without a mask"):
        command.main([f"run={run}", root, f"output={tmp_path / 'b'}"])
    half = ["protocol=folder/all", "protocol.fraction=0.5"]
    with pytest.raises(InputError, match="5 unlabeled images have a mask already; masked=true"):
        command.main([f"run={run}", root, *half, f"output={tmp_path / 'b'}"])
    assert command.main([f"run={run}", root, *half, "masked=true", "count=2", f"output={tmp_path / 'b'}"]) == 0
    assert len(ranking(tmp_path / "b")) == 2


def test_a_method_without_a_teacher_has_no_disagreement(tmp_path: Path) -> None:
    photos = write_photos(tmp_path / "my_data", 4)
    options = {k: v for k, v in OPTIONS.items() if k != "model"}
    run = semiseg.train(photos, "supervised", model="tiny", max_steps=2, runs=tmp_path / "runs", options=options)
    with pytest.raises(InputError, match="method=supervised has no teacher: choose views"):
        command.main([f"run={run['folder']}", "score=disagreement", f"output={tmp_path / 'a'}"])
    assert command.main([f"run={run['folder']}", "count=1", "uncertainty=views", f"output={tmp_path / 'a'}"]) == 0


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([], "output=DIR is missing"),
        (["output=x"], "give either run=DIR or checkpoint=FILE"),
        (["output=x", "score=entrpy"], "entropy"),
        (["output=x", "count=0"], "count"),
        (["output=x", "threshold=1.5"], "threshold"),
        (["output=x", "format=coco"], "labelme"),
        (["output=x", "run=nowhere"], "contains no checkpoints"),
    ],
)
def test_wrong_input_says_what_is_allowed(given: list[str], message: str, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=message):
        command.main(given)
    assert not list(tmp_path.iterdir())


def test_the_ranking_by_hand() -> None:
    entropies = torch.tensor([0.9, 0.8, 0.1, 0.8], dtype=torch.float64)
    unsure = torch.stack([torch.zeros(4, dtype=torch.float64), entropies], 1)
    found = Signals(("u0", "u1", "u2", "u3"), {"entropy": entropies}, unsure)
    features = torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0], [0.0, 1.0]], dtype=torch.float64)
    known = {"features": features, "labeled": {"l0": torch.tensor([1.0, 0.0], dtype=torch.float64)}}
    classes = ("sky", "road")

    def order(score, uncertainty="entropy", **others) -> list[str]:
        found_by = choose(found, classes, count=3, score=score, uncertainty=uncertainty, **known, **others)
        return [c.image_id for c in found_by]

    assert order("entropy") == ["u0", "u1", "u3"]  # equals go by id
    assert order("diversity") == ["u2", "u1", "u0"]  # u0 is a copy of a labeled image, u3 one of u1
    assert order("combined") == ["u1", "u2", "u0"]  # u2 is known, but unlike all others
    assert order("random", seed=1) == order("random", seed=1)
    assert len({tuple(order("random", seed=seed)) for seed in range(8)}) > 1
    first = choose(found, classes, count=1, uncertainty="entropy", **known)[0]
    assert first.nearest == "l0" and first.distance == pytest.approx(2**0.5)
    assert first.score == pytest.approx(0.8 * 2**0.5)
    assert "entropy 0.800, more than 25 % of" in first.why and "(l0)" in first.why and "most of them road" in first.why
    assert dataclasses.asdict(first)["uncertainty"] == {"entropy": 0.8}
    (other,) = choose(found, classes, count=1, uncertainty="entropy", features=features)
    assert other.image_id == "u0"  # nothing is labeled
    assert measures_for("diversity", "views") == ("entropy", "views")
    assert measures_for("margin", "entropy") == ("entropy", "margin")
