"""Validation on a subset during training and on all images at the end; what a person sees of it."""

from __future__ import annotations

import csv
import itertools
import json
from pathlib import Path

import pytest

from semiseg.commands.evaluate import main as evaluate_main
from semiseg.config import compose_config
from semiseg.data.loading.datamodule import SemiDataModule
from semiseg.data.loading.sampling import spread
from semiseg.runs.result import validation_share
from semiseg.training.fit import train
from support.tiny import tiny


@pytest.mark.parametrize("length,count", [(1, 1), (7, 7), (7, 3), (1449, 100), (10, 9)])
def test_a_subset_has_one_image_of_every_stretch_and_is_always_the_same(length: int, count: int) -> None:
    positions = spread(length, count)
    assert positions == spread(length, count)
    assert len(set(positions)) == count and all(0 <= p < length for p in positions)
    assert all(length * i // count <= p < length * (i + 1) // count for i, p in enumerate(positions))


@pytest.mark.parametrize("workers", [0, 1])
def test_a_subset_is_validated_until_the_last_step_and_all_images_then(
    workers: int, tmp_path: Path, monkeypatch, caplog
) -> None:
    seen: list[list[list[int]]] = []
    batches = SemiDataModule.eval_batches

    def watched(self):
        seen.append(batches(self))
        return seen[-1]

    monkeypatch.setattr(SemiDataModule, "eval_batches", watched)
    overrides = tiny("data.n_val=5", "max_steps=4", "val_every=2", f"loader.num_workers={workers}")
    whole = train(compose_config(overrides), tmp_path / "whole", overrides)
    assert all(b == [[0], [1], [2], [3], [4]] for b in seen)
    seen.clear()
    caplog.set_level("INFO")
    overrides += ["val_subset=2"]
    result = train(compose_config(overrides), tmp_path / "subset", overrides)
    subset = [[p] for p in spread(5, 2)]
    # The bar and the loader ask at each validation, the loader twice when it starts its workers.
    assert [asked for asked, _ in itertools.groupby(seen)] == [subset, [[0], [1], [2], [3], [4]]]
    for key in ("last", "last_student"):
        assert result["miou"][key] == whole["miou"][key]
    assert result["iou_per_class"] == whole["iou_per_class"]
    assert result["miou"]["best_step"] == 4 and result["miou"]["best"] == result["miou"]["last"]
    assert "validation every 2 on 2 images, spread over the list" in caplog.text
    assert "% of both)" in caplog.text
    assert json.loads((tmp_path / "subset/diagnostics.json").read_text())["n_images"] == 5
    curves = [
        {row["step"]: row["val/miou"] for row in csv.DictReader((tmp_path / run / "metrics.csv").open())}
        for run in ("whole", "subset")
    ]
    assert curves[0]["2"] != curves[1]["2"] and curves[0]["4"] == curves[1]["4"]
    evaluate_main([f"run={tmp_path / 'subset'}", f"output={tmp_path / 'scores.json'}"])
    scores = json.loads((tmp_path / "scores.json").read_text())
    assert scores["n_images"] == 5 and scores["miou"]["student"] == pytest.approx(whole["miou"]["last_student"])


def test_a_subset_as_large_as_the_list_is_the_list(tmp_path: Path) -> None:
    overrides = tiny("val_subset=2")
    result = train(compose_config(overrides), tmp_path, overrides)
    assert result["miou"]["best_step"] == 2


def test_the_share_of_validation() -> None:
    assert validation_share(30.0, 10.0) == 0.25 and validation_share(30.0, 0.0) == 0.0
    assert validation_share(None, None) is None and validation_share(30.0, None) is None


def test_validation_has_a_bar_of_its_own(tmp_path: Path, capsys) -> None:
    overrides = tiny("data.n_val=5", "max_steps=2")
    train(compose_config(overrides), tmp_path, overrides)
    shown = capsys.readouterr().err
    assert "validate:" in shown and "0/5" in shown
