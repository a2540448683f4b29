"""Three steps of training on each miniature, through the command line."""

from __future__ import annotations

import json
import sys
from functools import partial
from pathlib import Path

import pytest

from semiseg import cli
from support.miniatures import make_cityscapes, make_voc
from support.miniatures_b import make_ade20k, make_coco, make_pascal_context

VOC = ("2008_000008", "2008_000015", "2009_000001")
ALONE = "2010_000002"  # without a mask
RUNS = {
    "voc, augmented": ("voc", partial(make_voc, unlabeled=[ALONE], aug=list(VOC)), ["data.mask_cache=cache"]),
    "voc, SBD": ("voc", partial(make_voc, unlabeled=[ALONE], sbd=list(VOC)), ["data.mask_cache=cache"]),
    "cityscapes": (
        "cityscapes",
        partial(make_cityscapes, train_ids=["aachen_000000_000019"], height=64, width=128),
        [],
    ),
    "coco": ("coco", partial(make_coco), []),
    "coco, ready masks": ("coco", partial(make_coco, annotations=False, masks=True), []),
    "coco, cache": ("coco", partial(make_coco), ["data.mask_cache=cache", "data.crowd=ignore"]),
    "ade20k": ("ade20k", partial(make_ade20k), []),
    "ade20k, mapped": ("ade20k", partial(make_ade20k, mapped=True), []),
    "pascal_context": ("pascal_context", partial(make_pascal_context), []),
    "pascal_context, 59": ("pascal_context", partial(make_pascal_context, by_split=True), ["data.classes=59"]),
}


def train(*arguments: str) -> int:
    sys.argv = ["semiseg", "train", *arguments]
    with pytest.raises(SystemExit) as stop:
        cli.main()
    return stop.value.code


@pytest.mark.parametrize("run", RUNS)
def test_three_steps(run, tmp_path, monkeypatch, capsys):
    data, make, options = RUNS[run]
    root = make(tmp_path / "data")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", sys.argv)
    code = train(
        f"data={data}", f"data.root={root}", f"protocol={data}/default", f"protocol.name={data}/mini",
        "protocol.labeled=null", "protocol.unlabeled=null", "protocol.count=2", "method=fixmatch", "model.width=8",
        "crop_size=[64,64]", "batch.labeled=2", "batch.unlabeled=2", "epochs=null", "max_steps=3", "val_every=3",
        "trainer=debug", "loader.num_workers=0", "study=mini", *options,
    )  # fmt: skip
    assert code == 0, capsys.readouterr().err
    (path,) = Path("runs").rglob("result.json")
    result = json.loads(path.read_text())
    assert result["status"] == "completed" and result["steps"] == 3
    assert (result["n_labeled"], result["n_unlabeled"]) == (2, 4 if data == "voc" else 2)


def test_a_wrong_root_ends_before_training_with_one_line(tmp_path, monkeypatch, capsys):
    make_coco(tmp_path / "coco")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", sys.argv)
    assert train("data=coco", f"data.root={tmp_path}/coco/val2017", "protocol=coco/1_512") == 2
    err = capsys.readouterr().err.strip()
    assert err.endswith(f"set data.root={tmp_path}/coco") and "Traceback" not in err and "\n" not in err


def test_a_protocol_name_without_data_set_ends_before_training(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", sys.argv)
    assert train("data=coco", f"data.root={tmp_path}", "protocol=coco/1_512", "protocol.name=mine") == 2
    assert "protocol.name=mine: expected DATA/NAME" in capsys.readouterr().err
