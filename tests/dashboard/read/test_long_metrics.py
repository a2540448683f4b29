"""metrics.csv is read in a stream: what is kept does not grow with its length."""

import csv
import random

import numpy as np
import pytest

from semiseg.dashboard.read import metrics
from semiseg.dashboard.read.metrics import MAX_POINTS, read_metrics


def write(path, rows):
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([["step", "train/loss", "val/miou", "other"], *rows])
    return path


def test_a_long_file_is_thinned_to_means_over_bins(tmp_path, monkeypatch):
    monkeypatch.setattr(metrics, "_CHUNK", 700)
    noise = random.Random(0)
    rows = [(i, noise.random(), 0.5 if i % 100 == 0 else "", 1) for i in range(1, 20_001)]
    found = read_metrics(write(tmp_path / "metrics.csv", rows), [])
    loss, miou = found.curves["train/loss"], found.curves["val/miou"]
    assert MAX_POINTS / 2 <= len(loss.steps) <= MAX_POINTS
    width = int(np.diff(loss.steps)[0])
    by_bin = {}
    for step, value, *_ in rows:
        by_bin.setdefault(step // width * width, []).append(value)
    assert loss.steps.tolist() == list(by_bin)
    assert loss.values.tolist() == pytest.approx([sum(v) / len(v) for v in by_bin.values()])
    assert miou.steps.tolist() == list(range(100, 20_001, 100))  # few enough to be kept as they are
    assert found.last_step == 20_000
    assert "other" not in found.curves


@pytest.mark.parametrize("chunk", [1, 2, 3, 100])
def test_the_chunks_it_is_read_in_make_no_difference(tmp_path, monkeypatch, chunk):
    rows = [
        (10, 1.5, "", 1),
        (20, 1.2, 0.4, 1),
        ("x", 1, 1, 1),
        (20, 1.1, "", 1),
        (5, 0.7, 0.2, 1),
        (30, "nan", 0.1, 1),
    ]
    path = write(tmp_path / "metrics.csv", rows)
    monkeypatch.setattr(metrics, "_CHUNK", chunk)
    problems = []
    found = read_metrics(path, problems)
    np.testing.assert_array_equal(found.curves["train/loss"].steps, [5, 10, 20, 30])
    np.testing.assert_array_equal(found.curves["train/loss"].values, [0.7, 1.5, 1.1, np.nan])
    np.testing.assert_array_equal(found.curves["val/miou"].values, [0.2, 0.4, 0.1])
    assert problems == [f"{path}: 1 damaged line(s) skipped, the first is line 4"]


def test_curves_thinned_by_different_factors_keep_steps_in_common(tmp_path):
    curves = []
    for n in (3_000, 9_000):
        rows = [(i, 0.5, "", 1) for i in range(n)]
        curves.append(read_metrics(write(tmp_path / "metrics.csv", rows), []).curves["train/loss"])
    assert len(np.intersect1d(curves[0].steps, curves[1].steps)) > 100
