"""``semiseg data list`` and ``data fetch`` in process, without a network."""

from __future__ import annotations

from pathlib import Path

import pytest

from semiseg.commands import data_fetch, data_list
from semiseg.data.partitions.official import LISTS, official_partitions
from semiseg.errors import InputError


@pytest.fixture(autouse=True)
def no_data(monkeypatch):
    monkeypatch.delenv("SEMISEG_DATA", raising=False)


def listed(capsys, *args: str) -> dict[str, list[str]]:
    """The cells of each protocol."""
    assert data_list.main(args) == 0
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 100
    return {cells[0]: cells[1:] for line in lines if "/" in (cells := line.split() or [""])[0]}


def test_every_published_partition_is_listed_with_its_numbers(capsys):
    found = listed(capsys)
    for p in official_partitions():
        status = ["in", "the", "package"] if p.data == "camvid" else ["not", "fetched"]
        assert found[p.name] == [str(p.n_labeled), str(p.n_unlabeled), p.family, *status]


def test_what_is_on_this_machine_is_said(capsys, tmp_path: Path, monkeypatch):
    monkeypatch.setenv("SEMISEG_DATA", str(tmp_path))
    data_list.main(["data=camvid"])
    assert f"not found: no folder {tmp_path}/camvid" in " ".join(capsys.readouterr().out.split())  # lines are wrapped
    for split in ("train", "val"):
        for folder in (split, f"{split}annot"):
            (tmp_path / "camvid" / folder).mkdir(parents=True)
            (tmp_path / "camvid" / folder / f"{split}_0.png").touch()
    data_list.main(["data=camvid"])
    told = " ".join(capsys.readouterr().out.split())
    assert f"available in {tmp_path}/camvid: 1 images in train, 1 images in val" in told


def test_fetched_lists_are_marked(capsys, tmp_path: Path):
    """A list that is not the published one is refused, so a made-up file is enough here."""
    target = tmp_path / "partitions" / "voc" / "classic_92" / "labeled.txt"
    target.parent.mkdir(parents=True)
    target.write_text("x")
    found = listed(capsys, "data=voc", f"data.root={tmp_path}")
    assert found["voc/classic_92"][-1] == "fetched" and found["voc/classic_183"][-2:] == ["not", "fetched"]


def test_fetch_without_a_network_and_from_a_folder_without_lists(tmp_path: Path):
    with pytest.raises(InputError, match=r"cannot be reached .*source=DIR"):
        data_fetch.main(["voc", f"data.root={tmp_path}", "url=http://127.0.0.1:9"])
    with pytest.raises(InputError, match=r"no file below it lists the 232 labeled images of coco/1_512"):
        data_fetch.main(["coco", f"data.root={tmp_path}", f"source={LISTS}"])
    assert not list(tmp_path.iterdir())
