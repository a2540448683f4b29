"""Published protocols from the command line: three steps with the official ids, and the numbers of images."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from semiseg import cli
from semiseg.data.partitions.fetch import fetch_lists
from semiseg.data.partitions.list_files import base_name
from semiseg.data.partitions.official import official_partition, official_partitions
from support import published_trees as trees
from support.published_lists import collection, content, records

COCO_TRAIN, CONTEXT_TRAIN = 118287, 4996

RUNS = {  # protocols with their labeled and unlabeled images, as published
    "voc": [("classic_92", 92, 10490), ("blender_1_16", 662, 9920), ("u2pl_1_2", 5291, 5291)],
    "cityscapes": [("1_30", 100, 2875), ("u2pl_1_4", 744, 2231)],
    "coco": [("1_512", 232, 118055)],
    "ade20k": [("1_64", 316, 19894), ("semivl_1_32", 632, 19578)],
    "pascal_context": [("1_16", 312, 4684)],
}


def ids_of(folder: Path, name: str, role: str = "labeled") -> list[str]:
    """The ids of a list with this identity in the collection."""
    identity = official_partition(name).identity(role)
    record = next(r for r in records(folder) if r["id_set_sha256"] == identity and r["copy"])
    return [base_name(line.split()[0]) for line in content(folder, record).splitlines()]


def made_up(ids: list[str], count: int, pattern: str) -> list[str]:
    """``ids``, filled up to ``count``."""
    known, extra, k = set(ids), [], 0
    while len(known) + len(extra) < count:
        k += 1
        if (name := pattern.format(k)) not in known:
            extra.append(name)
    return [*ids, *extra]


def write_tree(data: str, root: Path, folder: Path) -> None:
    if data == "voc":
        clean = ids_of(folder, "voc/classic_1464")
        trees.write_voc(root, [*clean, *ids_of(folder, "voc/classic_1464", "unlabeled")], clean)
    elif data == "cityscapes":
        name = "cityscapes/1_2"
        trees.write_cityscapes(root, [*ids_of(folder, name), *ids_of(folder, name, "unlabeled")])
    elif data == "coco":
        labeled = sorted({i for p in official_partitions(data) for i in ids_of(folder, p.name)})
        trees.write_coco(root, made_up(labeled, COCO_TRAIN, "9{:011d}"), labeled)
    elif data == "ade20k":
        trees.write_ade20k(root, [f"ADE_train_{k:08d}" for k in range(1, 20211)])
    else:
        ids = sorted({i for p in official_partitions(data) for i in ids_of(folder, p.name)})
        trees.write_pascal_context(root, made_up(ids, CONTEXT_TRAIN, "2010_{:06d}"))


@pytest.fixture(params=RUNS)
def data(request) -> str:
    """Each data set that has published partitions."""
    return request.param


@pytest.fixture
def root(data, tmp_path, monkeypatch) -> Path:
    """A folder with the files of the data set and its published lists."""
    folder, root = collection(), tmp_path / "data"
    write_tree(data, root, folder)
    fetch_lists(official_partitions(data), root, source=folder, say=lambda line: None)
    monkeypatch.chdir(tmp_path)
    return root


def test_three_steps_with_the_official_ids(data, root, monkeypatch, capsys):
    for partition, labeled, unlabeled in RUNS[data]:
        # The unlabeled lists of PASCAL-Context are not in the collection, and not all its ids are known.
        whole = ["protocol.unlabeled=null"] if data == "pascal_context" else []
        result = three_steps(f"{data}/{partition}", root, monkeypatch, capsys, *whole)
        assert (result["n_labeled"], result["n_unlabeled"]) == (labeled, unlabeled)


@pytest.mark.slow
def test_three_steps_of_every_published_protocol(data, root, monkeypatch, capsys):
    for partition in official_partitions(data):
        whole = not (root / "partitions" / partition.name / "unlabeled.txt").exists()  # the list is in no collection
        more = ["protocol.unlabeled=null"] if whole and data != "coco" else []
        result = three_steps(partition.name, root, monkeypatch, capsys, *more)
        assert result["n_labeled"] == partition.n_labeled
        if data == "coco" or not whole:
            assert result["n_unlabeled"] == partition.n_unlabeled


def three_steps(protocol: str, root: Path, monkeypatch, capsys, *more: str) -> dict[str, object]:
    """The result of three steps under a protocol; the run must know the list."""
    data, _, partition = protocol.partition("/")
    arguments = [
        f"data={data}", f"data.root={root}", f"protocol={protocol}", "method=fixmatch", "model.width=8",
        "crop_size=[32,32]", "batch.labeled=2", "batch.unlabeled=2", "epochs=null", "max_steps=3", "val_every=3",
        "trainer=debug", "loader.num_workers=0", f"study=try_{partition}", *more,
    ]  # fmt: skip
    monkeypatch.setattr(sys, "argv", ["semiseg", "train", *arguments])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    assert stop.value.code == 0, capsys.readouterr().err
    (path,) = Path("runs", f"try_{partition}").rglob("result.json")
    result = json.loads(path.read_text())
    assert result["status"] == "completed" and result["steps"] == 3
    assert result["official"] == result["protocol"] == protocol
    assert result["labeled_ids_sha256"] == official_partition(protocol).sha256
    return result
