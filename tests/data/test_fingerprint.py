"""The fingerprint changes with what a run sees, and with nothing else."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from semiseg.data.datasets.folder import Folder
from semiseg.data.datasets.shapes import Shapes
from semiseg.data.fingerprint import Fingerprint, data_fingerprint, describe_difference
from semiseg.data.partitions.splits import make_partition
from support.dataset_files import random_image, save
from support.hostile import fifo

CLASSES = "[ground, car, tree]"


def add(root: Path, name: str, *, mask: bool = True, seed: int = 0) -> None:
    rng = np.random.default_rng([seed, *name.encode()])
    save(root / "images" / f"{name}.png", random_image(rng))
    if mask:
        save(root / "masks" / f"{name}.png", rng.integers(0, 3, (12, 16), dtype=np.uint8))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "d"
    for name in ("l1", "l2", "l3", "v1"):
        add(root, name)
    for name in ("u1", "u2"):
        add(root, name, mask=False)
    (root / "classes.yaml").write_text(CLASSES)
    (root / "val.txt").write_text("v1")
    return root


def taken(root: Path, *, contents: bool = False) -> Fingerprint:
    dataset = Folder(root)
    return data_fingerprint(dataset, make_partition(dataset, fraction=1.0), dataset.ids("val"), contents)


def difference(root: Path, before: Fingerprint) -> str:
    after = taken(root)
    assert (after.digest == before.digest) == (describe_difference(before.parts, after.parts) == "")
    return describe_difference(before.parts, after.parts)


def test_a_moved_or_copied_folder_is_the_same(root: Path, tmp_path: Path) -> None:
    before = taken(root, contents=True)
    shutil.copytree(root, tmp_path / "copy")
    root.rename(tmp_path / "elsewhere")
    assert taken(tmp_path / "copy", contents=True) == before == taken(tmp_path / "elsewhere", contents=True)
    assert difference(tmp_path / "copy", before) == ""


def test_differences_are_said_in_words(root: Path) -> None:
    before = taken(root)
    for name in ("m1", "m2", "m3", "m4", "m5"):
        add(root, name)
    assert difference(root, before) == "5 labeled images more"
    add(root, "u3", mask=False)
    assert difference(root, before) == "5 labeled images more, 1 unlabeled image more"


def test_a_mask_for_an_unlabeled_image(root: Path) -> None:
    before = taken(root)
    add(root, "u1")
    assert difference(root, before) == "1 labeled image more, 1 unlabeled image fewer"


def test_class_order_and_names(root: Path) -> None:
    before = taken(root)
    (root / "classes.yaml").write_text("[car, ground, tree]")
    assert difference(root, before) == "class order"
    (root / "classes.yaml").write_text("[ground, car, bush]")
    assert difference(root, before) == "new classes: bush, removed classes: tree"


def test_other_images_and_other_files(root: Path) -> None:
    before = taken(root)
    (root / "images/u2.png").rename(root / "images/u9.png")
    assert difference(root, before) == "other unlabeled images"
    (root / "images/u9.png").rename(root / "images/u2.png")
    save(root / "masks/v1.png", np.zeros((12, 16), np.uint8))
    assert difference(root, before) == "other files of the same validation images"


def test_masks_of_unlabeled_images_do_not_count(root: Path) -> None:
    dataset = Folder(root)
    two = make_partition(dataset, count=2)
    before = data_fingerprint(dataset, two, dataset.ids("val"), contents=True)
    closed = next(i for i in two.unlabeled if dataset.has_mask(i))
    (root / "masks" / f"{closed}.png").write_bytes(b"anything")
    assert data_fingerprint(dataset, two, dataset.ids("val"), contents=True) == before


def test_contents_see_what_sizes_do_not(root: Path) -> None:
    path = root / "images/l1.png"
    before = taken(root, contents=True)
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    after = taken(root, contents=True)
    assert after.digest == before.digest and after.contents != before.contents
    assert taken(root).contents is None


def test_a_file_that_is_gone_is_a_difference_and_no_error(root: Path) -> None:
    dataset = Folder(root)
    partition = make_partition(dataset, fraction=1.0)
    before = data_fingerprint(dataset, partition, ["v1"])
    (root / "images/l1.png").unlink()
    assert data_fingerprint(dataset, partition, ["v1"], contents=True).digest != before.digest


def test_drawn_data_sets_differ_by_seed_and_size() -> None:
    def of(dataset: Shapes) -> Fingerprint:
        return data_fingerprint(dataset, make_partition(dataset, count=2), dataset.ids("val"))

    small = {"n_train": 4, "n_val": 2, "n_test": 1}
    one, other = of(Shapes(**small)), of(Shapes(seed=1, **small))
    assert one == of(Shapes(**small)) and one.digest != other.digest
    assert "seed 1 instead of" in describe_difference(one.parts, other.parts)


def test_old_records_without_a_part_are_no_difference(root: Path) -> None:
    assert describe_difference({}, taken(root).parts) == "" == describe_difference(taken(root).parts, {})


@pytest.mark.parametrize("folder", ["images", "masks"])
def test_the_contents_of_a_pipe_are_not_waited_for(folder: str, root: Path) -> None:
    path = next(p for p in sorted((root / folder).iterdir()) if p.suffix == ".png")
    path.unlink()
    fifo(path)
    assert taken(root, contents=True).contents
