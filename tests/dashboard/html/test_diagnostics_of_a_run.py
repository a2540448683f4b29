"""Confusion, calibration, thresholds and worst images of the last validation, on the page."""

import json
from pathlib import Path

import numpy as np
import pytest

from semiseg.dashboard.compare.calibration import calibration_error, propose, reliability, thresholds
from semiseg.dashboard.html.diagnostics import DiagnosticsView
from semiseg.dashboard.read.diagnostics import Diagnostics, read_diagnostics
from semiseg.dashboard.report import write_report
from support.fake_runs import CLASSES, write_run


def diagnostics(counts, correct, confidence=None, confusion=((1,),)):
    counts, confusion = np.array(counts), np.array(confusion)
    centers = (np.arange(len(counts)) + 0.5) / len(counts)
    names = tuple(f"c{i}" for i in range(len(confusion)))
    sums = counts * centers if confidence is None else np.array(confidence)
    return Diagnostics(5, "student", 2, names, confusion, counts, np.array(correct), sums, ())


def pixels(seed=0, n=2000, bins=40):
    """Confidences and whether each is right, and the same in bins."""
    noise = np.random.default_rng(seed)
    confidence, right = noise.random(n), None
    right = noise.random(n) < confidence**1.5
    index = (confidence * bins).astype(int)
    counts, sums = np.bincount(index, minlength=bins), np.bincount(index, confidence, bins)
    return confidence, right, diagnostics(counts, np.bincount(index, right, bins).astype(int), sums)


def test_the_calibration_error_is_that_of_its_definition():
    confidence, right, found = pixels()
    expected = 0.0
    for low in np.arange(0, 1, 0.05):
        there = (confidence >= low - 1e-12) & (confidence < low + 0.05 - 1e-12)
        if there.any():
            expected += there.mean() * abs(confidence[there].mean() - right[there].mean())
    assert calibration_error(reliability(found)) == pytest.approx(expected)


def test_precision_and_coverage_of_each_threshold_against_the_pixels():
    confidence, right, found = pixels()
    for row in thresholds(found):
        kept = confidence >= row.threshold
        assert row.precision == pytest.approx(right[kept].mean())
        assert row.coverage == pytest.approx(kept.mean())


def test_the_lowest_threshold_of_the_wanted_precision_is_proposed():
    _, _, found = pixels()
    rows = thresholds(found)
    proposed = propose(rows, 0.8)
    assert proposed.precision >= 0.8
    assert all(row.precision < 0.8 for row in rows if row.threshold < proposed.threshold)
    best = propose(rows, 1.1)
    assert best.precision == max(row.precision for row in rows if row.coverage >= 0.02)
    assert propose([]) is None


@pytest.mark.parametrize("counts", [[0, 0, 0, 0], [5, 0, 0, 0], [0, 0, 0, 7]])
def test_few_or_no_pixels_are_no_problem(counts):
    view = DiagnosticsView("x", diagnostics(counts, counts))
    assert view.proposal() and view.threshold_table().rows is not None and view.error
    assert (view.reliability_svg() is None) == (sum(counts) == 0)


def test_the_matrix_shows_shares_of_the_label_and_the_most_frequent_mistakes():
    view = DiagnosticsView("x", diagnostics([1], [1], confusion=((6, 2, 0), (1, 3, 0), (0, 0, 0))))
    rows = view.matrix().rows
    assert [[cell.text for cell in row] for row in rows] == [
        ["c0", "75.0", "25.0", "", "8"],
        ["c1", "25.0", "75.0", "", "4"],
        ["c2", "–", "–", "–", "0"],
    ]
    assert view.confusions() == [
        "c0 predicted as c1: 67 % of all wrong pixels, 25.0 % of c0",
        "c1 predicted as c0: 33 % of all wrong pixels, 25.0 % of c1",
    ]
    many = diagnostics([1], [1], confusion=np.eye(50, dtype=int))
    assert DiagnosticsView("x", many).matrix() is None


def test_the_page_of_one_run_has_its_diagnostics_and_no_empty_comparison(tmp_path):
    write_run(tmp_path, "unimatch", images=True, diagnostics=True)
    report = write_report([tmp_path], tmp_path / "report.html")
    page = report.html.read_text()
    for text in ("Errors: unimatch", "Worst images: unimatch", "val_00000: 90.0 % wrong", "Calibration",
                 "Suggested confidence threshold" if "Suggested" in page else "No threshold reaches", "In numbers",
                 "Expected calibration error", "IoU per class over training", *CLASSES):  # fmt: skip
        assert text in page, text
    assert page.count('<img class="zoom"') == 3 * 4
    for text in ("Significance and cost", "Δ best", "Best mIoU by seed", "95 % interval", "Rank"):
        assert text not in page.partition("</style>")[2] and text not in report.text.partition("mIoU in percent")[0], (
            text
        )


def test_older_runs_without_the_file_have_no_such_cards(tmp_path):
    write_run(tmp_path, "unimatch", images=True)
    page = write_report([tmp_path], tmp_path / "report.html").html.read_text()
    assert "Errors: " not in page and "Calibration" not in page and "Worst images" not in page


@pytest.mark.parametrize(
    "change",
    [
        {"classes": []}, {"classes": ["a"]}, {"confusion": [[1, 2]]}, {"confusion": [[1e999]]}, {"worst": 3},
        {"calibration": {"pixels": [1], "correct": [2], "confidence_sum": [0.5]}}, {"confusion": "x"},
        {"calibration": {"pixels": [1], "correct": [1], "confidence_sum": [1e999]}}, {"worst": [{"id": "a"}]},
    ],
)  # fmt: skip
def test_a_damaged_file_is_named_and_left_out(tmp_path: Path, change):
    folder = write_run(tmp_path, "unimatch", n_logged=2, diagnostics=True)
    path = folder / "diagnostics.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    problems = []
    assert read_diagnostics(path, problems) is None
    assert "not in semiseg's format" in problems[0]
    assert "Errors: " not in write_report([tmp_path], tmp_path / "report.html").html.read_text()


def test_hostile_names_in_the_file_stay_text(tmp_path):
    folder = write_run(tmp_path, "unimatch", n_logged=2, diagnostics=True)
    path, hostile = folder / "diagnostics.json", "<script>alert(1)</script>"
    raw = json.loads(path.read_text())
    raw |= {"classes": [hostile, *CLASSES[1:]], "network": hostile, "worst": [{"id": hostile, "error": 0.5}]}
    path.write_text(json.dumps(raw))
    page = write_report([tmp_path], tmp_path / "report.html").html.read_text()
    assert hostile not in page and "&lt;script&gt;alert(1)" in page
