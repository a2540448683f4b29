"""A dry run does all but train, and leaves nothing behind."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from semiseg.commands import start, train
from semiseg.config import compose_run
from semiseg.errors import InputError
from semiseg.runs.result import read_result
from semiseg.training.dry_run import DryRun, dry_run, figures
from semiseg.training.dry_run import main as as_program
from semiseg.training.fit import train as fit
from semiseg.training.short_run import STEPS, Speed
from support.own_photos import write_photos
from support.tiny import tiny


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(*overrides: str) -> Path:
    cfg, folder = compose_run(overrides)
    fit(cfg, folder, overrides)
    return folder


def test_it_tells_time_and_memory_and_leaves_nothing(here: Path, capsys) -> None:
    assert train.main([*tiny("method=unimatch", "max_steps=40", "val_every=20", "data.n_val=6"), "dry_run=true"]) == 0
    told = capsys.readouterr().out
    assert f"measured  {STEPS} steps after 3 warm-up steps, 4 of 6 validation images, on cpu" in told
    assert "40 steps x" in told and "2 validations" in told and "memory    peak" in told
    assert "2 labeled, 14 unlabeled, 6 validation images" in told
    assert told.splitlines()[-1].startswith("next: semiseg train ") and "dry_run" not in told.splitlines()[-1]
    assert not list(here.rglob("*"))


def test_a_run_after_it_is_the_run_without_it(here: Path) -> None:
    overrides = tiny("method=mean_teacher", "max_steps=3", "val_every=3")
    plain = run(*overrides, "study=plain")
    assert isinstance(dry_run([*overrides, "study=after"]), DryRun)
    after = run(*overrides, "study=after")
    scores = [read_result(folder)["miou"] for folder in (plain, after)]
    assert scores[0] == scores[1]
    losses = [[row.split(",")[:3] for row in (f / "metrics.csv").read_text().splitlines()] for f in (plain, after)]
    assert losses[0] == losses[1]


def test_a_run_that_has_begun_counts_what_is_left_and_a_complete_one_is_not_measured(here: Path, capsys) -> None:
    folder = run(*tiny("max_steps=2"))
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    assert train.main([*tiny("max_steps=2"), "dry_run=true"]) == 0
    assert "already complete" in capsys.readouterr().out
    result = json.loads((folder / "result.json").read_text()) | {"status": "interrupted"}
    (folder / "result.json").write_text(json.dumps(result))
    found = dry_run(tiny("max_steps=2"))
    assert isinstance(found, DryRun) and found.steps == 0 and found.seconds_validation == 0.0
    assert {path for path in folder.rglob("*")} == set(before)


@pytest.mark.parametrize(
    "words,message",
    [
        (["-m", "seed=0,1", "dry_run=true"], "plan=true lists the jobs"),
        (["dry_run=maybe"], "expected dry_run=true or dry_run=false"),
        (["dryrun=true"], "dryrun"),
    ],
)
def test_mistakes_are_told_in_a_line(words: list[str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        train.main([*tiny(), *words])


def test_wrong_data_is_found_as_in_training(here: Path) -> None:
    (write_photos(here / "photos") / "masks/train/train0.png").write_bytes(b"no image")
    with pytest.raises(InputError, match=r"train0\.png"):
        train.main(["data=folder", "data.root=photos", *tiny("data.size=", "data.n_train=", "data.n_val=", "protocol=")
                    , "dry_run=true"])  # fmt: skip


@pytest.mark.parametrize(
    "options",
    [
        ["trainer.accumulate=2"],
        ["optim.warmup_steps=100"],
        ["trainer.devices=2"],
        ["method=stpp"],
        ["method=u2pl"],
        ["max_steps=null", "epochs=3"],
        ["val_subset=1"],
    ],
    ids=lambda options: options[0],
)
def test_every_kind_of_run_can_be_measured(options: list[str], capsys) -> None:
    keys = [o.split("=")[0] + "=" for o in options if not o.startswith("max_steps")]
    assert train.main([*tiny("max_steps=200", "val_every=100", *keys), *options, "dry_run=true"]) == 0
    told = capsys.readouterr().out
    assert ("measured with one process instead of 2" in told) == ("trainer.devices=2" in options)
    assert ("only the first stage was measured" in told) == ("method=stpp" in options)


def test_the_time_of_a_run_is_that_of_its_steps_and_validations() -> None:
    data = SimpleNamespace(val_ids=range(50), val_subset=None)
    prepared = SimpleNamespace(assembly=SimpleNamespace(datamodule=data))
    speed = Speed(step=0.5, image=0.1, validation=1.0, images=4, memory_mb=2048.0, device="cpu")
    found = DryRun(None, prepared, speed, 4096.0, steps=1000, val_every=300)
    assert found.seconds_training == 500.0 and found.validations == 4
    assert found.seconds_validation == pytest.approx(4 * (1.0 + 50 * 0.1))
    assert "time      about 9 min: 1000 steps x 0.5 s = 8 min, 4 validations 24 s" in figures(found)[1]
    assert "2.00 GiB" in figures(found)[2] and "4.0 GiB were free" in figures(found)[2]
    data.val_subset = 10
    assert found.seconds_validation == pytest.approx(3 * (1.0 + 10 * 0.1) + 1.0 + 50 * 0.1)


def test_a_plan_is_told_by_the_same_measurement(here: Path) -> None:
    as_program([str(here / "speed.json"), *tiny("data.n_val=3")])
    found = json.loads((here / "speed.json").read_text())
    assert found["step"] > 0 and found["image"] > 0 and found["n_val"] == 3
    assert [p.name for p in here.iterdir()] == ["speed.json"]


def test_start_proposes_a_command_and_runs_it_when_asked(here: Path, capsys, monkeypatch) -> None:
    write_photos(here / "my photos")
    small = ["crop_size=32", "model=tiny", "model.width=4", "batch.labeled=2", "batch.unlabeled=2",
             "loader.num_workers=0", "max_steps=2", "val_every=2"]  # fmt: skip
    assert start.main(["my photos", *small]) == 0
    told = capsys.readouterr().out
    assert "my photos: 6 labeled, 4 unlabeled, 2 validation photos" in told
    assert "6 labeled and 2 validation images" in told and "protocol.folds=5" in told
    command = told.splitlines()[-1]
    assert command.startswith("next: semiseg train data=folder 'data.root=my photos' crop_size=32")
    assert "method=unimatch" in command and "trainer=cpu" in command
    assert [p.name for p in here.iterdir()] == ["my photos"]
    given: list[list[str]] = []
    monkeypatch.setattr(train, "main", lambda words: given.append(list(words)) or 0)
    assert start.main(["my photos", *small, "--yes"]) == 0
    assert "semiseg train" in capsys.readouterr().out and given[0][:2] == ["data=folder", "data.root=my photos"]


@pytest.mark.parametrize(
    "words,message",
    [
        ([], "the folder of the photos is missing"),
        (["nowhere"], "no such folder"),
        (["photos", "data=camvid"], "remove this"),
        (["photos", "yess=true"], "yess"),
        (["photos", "experiment=demo_real"], "use semiseg train with dry_run=true"),
    ],
)
def test_start_tells_mistakes_in_a_line(words: list[str], message: str, here: Path) -> None:
    write_photos(here / "photos")
    with pytest.raises(InputError, match=message):
        start.main(words)


def test_training_on_own_images_with_nothing_chosen_hints_at_start(capsys) -> None:
    train._hint_at_start(["data.root=my photos", "data=folder"])
    assert "hint: semiseg start 'my photos'" in capsys.readouterr().err
    for words in (["data=folder", "data.root=x", "seed=1"], ["data=shapes", "seed=1"], ["data=folder"]):
        train._hint_at_start(words)
    assert not capsys.readouterr().err
