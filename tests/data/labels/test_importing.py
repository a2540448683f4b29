"""What `semiseg data import` writes, keeps and refuses."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from semiseg.commands.data import main
from semiseg.data.checking.check import check_dataset
from semiseg.data.checking.start import partly_labeled
from semiseg.data.datasets.folder import Folder
from semiseg.data.partitions.splits import Partition
from semiseg.errors import InputError
from support.dataset_files import random_image, save

H, W = 12, 16
SQUARE = [[2, 2], [6, 2], [6, 6], [2, 6]]


def labelme(root: Path, stem: str, label: str = "tree", folder: str = "", size: tuple[int, int] = (H, W)) -> None:
    save(root / folder / f"{stem}.jpg", random_image(np.random.default_rng(len(stem)), *size))
    shapes = [{"label": label, "points": SQUARE, "shape_type": "polygon"}]
    content = {"shapes": shapes, "imagePath": f"{stem}.jpg", "imageHeight": size[0], "imageWidth": size[1]}
    (root / folder / f"{stem}.json").write_text(json.dumps(content))


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Two labeled photos, two without labels."""
    root = tmp_path / "source"
    labelme(root, "a")
    labelme(root, "bb", "car")
    for name in ("c", "deep/d"):
        save(root / f"{name}.png", random_image(np.random.default_rng(9), H, W))
    return root


def state(root: Path) -> dict[str, str]:
    return {
        str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }


def bring(source: Path, output: Path, *more: str) -> int:
    return main(["import", str(source), f"output={output}", *more])


def test_an_import_is_a_data_set(source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = state(source)
    assert bring(source, tmp_path / "out") == 0
    told = capsys.readouterr().out
    assert state(source) == before
    data = Folder(tmp_path / "out", val_fraction=0.5)
    assert data.classes == ("background", "car", "tree")
    expected = np.zeros((H, W), np.uint8)
    expected[2:6, 2:6] = 2
    np.testing.assert_array_equal(data.load_mask("a"), expected)
    assert sorted(data.ids("train") + data.ids("val")) == ["a", "bb", "c", "deep/d"]
    assert not data.has_mask("deep/d") and check_dataset(data).ok
    assert "images: 4 copied, 2 labeled, 2 unlabeled" in told
    assert "car              1 images    4.17 % of their pixels" in told
    assert "a: background 91.7 %, tree 8.3 %" in told
    assert f"next: semiseg data check data=folder data.root={tmp_path / 'out'}" in told


def test_pixels_that_nobody_painted_may_be_ignored(source: Path, tmp_path: Path) -> None:
    bring(source, tmp_path / "out", "blank=ignore", "link=true")
    data = Folder(tmp_path / "out", val_fraction=0.5)
    assert data.classes == ("car", "tree")
    assert sorted(np.unique(data.load_mask("a"))) == [1, 255]
    assert (tmp_path / "out" / "images" / "a.jpg").readlink() == source / "a.jpg"


def test_a_photo_without_objects_is_unlabeled_if_blank_is_ignored(source: Path, tmp_path: Path, capsys) -> None:
    (source / "c.json").write_text(json.dumps({"shapes": [], "imagePath": "c.png", "imageHeight": H, "imageWidth": W}))
    bring(source, tmp_path / "background")
    assert Folder(tmp_path / "background", val_fraction=0.5).has_mask("c")
    assert "note: 1 labeled images contain no object: all background" in capsys.readouterr().out
    bring(source, tmp_path / "ignored", "blank=ignore")
    assert not Folder(tmp_path / "ignored", val_fraction=0.5).has_mask("c")
    assert not Folder(source, blank="unlabeled", val_fraction=0.5).has_mask("c")


def test_a_class_file_fixes_the_order(source: Path, tmp_path: Path) -> None:
    given = tmp_path / "given.yaml"
    given.write_text("- {name: tree, color: '#010203'}\n- {name: car, ignore: true}\n- background\n")
    bring(source, tmp_path / "out", f"classes={given}")
    data = Folder(tmp_path / "out", val_fraction=0.5)
    assert data.classes == ("tree", "background") and data.palette[0] == (1, 2, 3)
    assert sorted(np.unique(data.load_mask("bb"))) == [1, 255]
    given.write_text("- tree\n- car\n")
    with pytest.raises(InputError, match=r"has no class 'background'; add .* or set blank=ignore"):
        bring(source, tmp_path / "other", f"classes={given}")
    given.write_text("- trees\n- background\n")
    with pytest.raises(InputError, match=r"no class for the label 'car'"):
        bring(source, tmp_path / "other", f"classes={given}")
    assert not (tmp_path / "other").exists()


def test_overwriting_replaces_what_an_import_wrote(source: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    bring(source, out)
    (out / "val.txt").write_text("a\n")
    with pytest.raises(InputError, match="exists and is not overwritten"):
        bring(source, out)
    (source / "c.png").unlink()
    labelme(source, "eeee")
    bring(source, out, "overwrite=true")
    assert (out / "val.txt").is_file() and not (out / "images" / "c.png").exists()
    assert (out / "masks" / "eeee.png").is_file()


def test_what_no_import_wrote_is_kept(source: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    save(out / "images" / "mine.png", random_image(np.random.default_rng(0)))
    before = state(out)
    for more in ((), ("overwrite=true",)):
        with pytest.raises(InputError, match="was not written by an import: choose another folder"):
            bring(source, out, *more)
    assert state(out) == before
    bring(source, tmp_path / "earlier")
    (tmp_path / "earlier" / "masks" / "c.png").write_text("mine")
    labelme(source, "c")
    (source / "c.png").unlink()
    with pytest.raises(InputError, match=r"masks/c.png exists and was not written by an import"):
        bring(source, tmp_path / "earlier", "overwrite=true")
    assert (tmp_path / "earlier" / "images" / "a.jpg").is_file()


@pytest.mark.parametrize("place", ["source", "source/new", "source/../source/x", "."])
def test_the_source_is_not_written_to(source: Path, tmp_path: Path, place: str) -> None:
    before = state(source)
    with pytest.raises(InputError, match="choose a folder outside the source"):
        bring(source, tmp_path / place)
    assert state(source) == before


def test_a_damaged_file_leaves_nothing(source: Path, tmp_path: Path) -> None:
    labelme(source, "zz")
    save(source / "zz.jpg", random_image(np.random.default_rng(0), W, H))
    with pytest.raises(InputError, match=r"zz.json: labels for 16 x 12 pixels, but the photo has 12 x 16 \(rotated"):
        bring(source, tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["source"]


def test_a_record_cannot_name_other_files(source: Path, tmp_path: Path) -> None:
    out, victim = tmp_path / "out", tmp_path / "victim.txt"
    bring(source, out)
    victim.write_text("mine")
    record = json.loads((out / "import.json").read_text())
    record["files"] += ["../victim.txt", "images/../../victim.txt", str(victim)]
    (out / "import.json").write_text(json.dumps(record))
    bring(source, out, "overwrite=true")
    assert victim.read_text() == "mine"


def test_splits_of_the_source_are_kept_if_they_are_whole(tmp_path: Path) -> None:
    for split in ("train", "valid"):
        labelme(tmp_path / "both", "a", folder=split)
    bring(tmp_path / "both", tmp_path / "out")
    data = Folder(tmp_path / "out")
    assert (data.ids("train"), data.ids("val")) == (["train/a"], ["val/a"])
    labelme(tmp_path / "one", "a", folder="train")
    labelme(tmp_path / "one", "b", folder="train")
    bring(tmp_path / "one", tmp_path / "out1")
    assert (tmp_path / "out1" / "images" / "a.jpg").is_file()


def test_a_turned_photo_keeps_its_labels(tmp_path: Path) -> None:
    labelme(tmp_path / "source", "a", size=(H, W))
    labelme(tmp_path / "source", "b")
    exif = Image.Exif()
    exif[0x0112] = 6  # stored on its side
    Image.fromarray(random_image(np.random.default_rng(0), W, H)).save(tmp_path / "source" / "a.jpg", exif=exif)
    bring(tmp_path / "source", tmp_path / "out")
    data = Folder(tmp_path / "out", val_fraction=0.5)
    assert data.load_mask("a").shape == data.load_image("a").shape[:2] == (H, W)


def test_blank_pixels_may_join_the_unlabeled_side(source: Path, tmp_path: Path) -> None:
    bring(source, tmp_path / "out", "blank=ignore")
    partition = Partition(labeled=("a", "bb"), unlabeled=("c",), sha256="", official=None)
    assert partly_labeled(Folder(tmp_path / "out", blank="unlabeled"), partition) == ("a", "bb")
    assert partly_labeled(Folder(tmp_path / "out"), partition) == ()
    bring(source, tmp_path / "whole")
    assert partly_labeled(Folder(tmp_path / "whole", blank="unlabeled"), partition) == ()


@pytest.mark.parametrize(
    "words,told",
    [
        ((), "the folder of the labels is missing"),
        (("nowhere", "output=x"), "nowhere: no such folder"),
        ((".",), "output=DIR is missing"),
        ((".", "output=x", "format=voc"), "format=voc"),
        ((".", "output=x", "mask_name=mask"), "mask_name=mask: expected the name of a mask"),
        ((".", "output=x", "outptu=x"), "unknown argument 'outptu=x': did you mean 'output'"),
    ],
)
def test_wrong_arguments(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], told: str) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=told):
        main(["import", *words])
