"""A run is the run of its data: same folder and other data is refused, moving the data is not noticed."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from semiseg.commands.evaluate import main as evaluate
from semiseg.config import compose_config
from semiseg.errors import InputError
from semiseg.runs.checkpoint import load_checkpoint
from semiseg.training.fit import train
from support.own_photos import write_classes, write_mask, write_photos
from support.tiny import tiny


def overrides(root: Path, *more: str) -> list[str]:
    own = ("data=folder", f"data.root={root}", "data.size=", "data.n_train=", "data.n_val=", "protocol=folder/all")
    return tiny(*own, "diagnostics.panels=0", *more)


def run(folder: Path, root: Path, *more: str) -> dict:
    return dict(train(compose_config(overrides(root, *more)), folder, overrides(root, *more)))


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    return write_photos(tmp_path / "photos")


def test_the_fingerprint_is_in_every_record(photos: Path, tmp_path: Path, caplog) -> None:
    folder = tmp_path / "run"
    digest = run(folder, photos)["data_fingerprint"]
    assert len(digest) == 64
    record = json.loads((folder / "data.json").read_text())
    assert record["digest"] == digest and record["root"] == str(photos)
    assert load_checkpoint(folder / "checkpoints/last.ckpt")["semiseg"]["data"]["digest"] == digest
    moved = photos.rename(tmp_path / "elsewhere")
    caplog.set_level("INFO")
    assert run(folder, moved)["data_fingerprint"] == digest and "already complete" in caplog.text


@pytest.mark.parametrize(
    "change,told",
    [
        (lambda root: [write_mask(root, "train", i) for i in (6, 7)], "2 labeled images more"),
        (lambda root: write_classes(root, ("thing", "ground", "sky")), "class order"),
        (lambda root: write_classes(root, ("ground", "thing", "cloud")), "new classes: cloud"),
        (lambda root: (root / "images/val/val0.png").write_bytes(b"x"), "other files of the same validation images"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("complete", [True, False])
def test_other_data_in_the_same_folder_is_refused(
    complete: bool, change, told: str, photos: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    run(folder, photos)
    if not complete:
        (folder / "result.json").unlink()
    before = {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    change(photos)
    with pytest.raises(InputError, match=f"contains a run on other data: .*{told}.*study=NAME, or overwrite=true"):
        run(folder, photos)
    assert before == {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_another_root_is_named(photos: Path, tmp_path: Path) -> None:
    other = write_photos(tmp_path / "other", size=44)
    folder = tmp_path / "run"
    first = run(folder, photos)
    with pytest.raises(InputError, match=r"data.root=\S+/photos there, \S+/other here"):
        run(folder, other)
    assert run(folder, other, "overwrite=true")["data_fingerprint"] != first["data_fingerprint"]


def test_a_run_that_failed_before_its_first_checkpoint_takes_mended_data(
    photos: Path, tmp_path: Path, monkeypatch
) -> None:
    folder = tmp_path / "run"
    with monkeypatch.context() as patch, pytest.raises(ZeroDivisionError):
        patch.setattr("semiseg.methods.supervised.Supervised.step", lambda self, batch: 1 / 0)
        run(folder, photos)
    write_mask(photos, "train", 8)
    assert run(folder, photos)["status"] == "completed"
    assert json.loads((folder / "data.json").read_text())["digest"] == run(folder, photos)["data_fingerprint"]


def test_a_run_without_a_record_of_its_data_is_not_taken_for_this_one(photos: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    run(folder, photos)
    (folder / "data.json").unlink()
    run(folder, photos)  # result.json has it too
    result = json.loads((folder / "result.json").read_text())
    del result["data_fingerprint"]
    (folder / "result.json").write_text(json.dumps(result))
    with pytest.raises(InputError, match="does not record its training data"):
        run(folder, photos)


def test_a_checkpoint_is_not_scored_on_other_classes(photos: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    run(folder, photos)
    for classes, told in (
        (
            ("thing", "ground", "sky"),
            "another order: class 0 is 'ground' in the checkpoint and 'thing' in the data set",
        ),
        (("ground", "thing", "skies"), "other classes: class 2 is 'sky' in the checkpoint and 'skies'"),
    ):
        write_classes(photos, classes)
        with pytest.raises(InputError, match=told):
            evaluate([f"run={folder}"])


def test_own_lists_are_filed_under_a_name_of_their_own(photos: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("train0\ntrain1\n")
    own = (f"protocol.labeled={tmp_path}/mine.txt", "protocol.fraction=null")
    result = run(tmp_path / "run", photos, *own)
    name = result["partition"]
    assert name.startswith("custom_") and result["protocol"] == f"folder/{name}"
    shutil.copy(tmp_path / "mine.txt", tmp_path / "copy.txt")
    again = (f"protocol.labeled={tmp_path}/copy.txt", "protocol.fraction=null")
    assert run(tmp_path / "again", photos, *again)["partition"] == name
