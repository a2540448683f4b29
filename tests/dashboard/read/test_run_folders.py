import datetime
import json
import logging
import math
import os
import socket

import numpy as np
import pytest

from semiseg.dashboard.read.find import find_runs
from semiseg.errors import InputError
from support.fake_runs import CLASSES, PALETTE, STEPS, write_run, write_study


def only(root):
    runs = find_runs([root])
    assert len(runs) == 1
    return runs[0]


def test_reads_what_a_completed_run_left(tmp_path):
    folder = write_run(tmp_path, "unimatch", seed=1, suffix="3fa2b1c4", overrides=["max_steps=2000"], images=True)
    run = only(tmp_path)
    assert (run.folder, run.status, run.seed, run.variant) == (folder, "completed", 1, "3fa2b1c4")
    identity = (run.study, run.data, run.partition, run.method, run.model)
    assert identity == ("demo", "shapes", "1_16", "unimatch", "deeplabv3plus_r18")
    assert run.max_steps == STEPS
    assert run.overrides[-1] == "max_steps=2000"
    raw = json.loads((folder / "result.json").read_text())
    assert run.result.miou_best == raw["miou"]["best"]
    assert run.result.iou_per_class == raw["iou_per_class"]
    assert run.result.crop_size == (96, 96)
    assert run.result.git_dirty
    assert run.classes == tuple(zip(CLASSES, PALETTE))
    assert run.images["val_0_prediction"] == folder / "images" / "val_0_prediction.png"
    assert len(run.curves["val/miou"].steps) == 40
    assert run.last_step == STEPS
    assert run.problems == ()


def test_finds_each_run_once_and_not_inside_others(tmp_path):
    write_study(tmp_path, images=False)
    for foreign in (".hydra/config.yaml", "wandb/offline-run/files/config.yaml"):
        (tmp_path / foreign).parent.mkdir(parents=True)
        (tmp_path / foreign).write_text("a: 1")
    conf = tmp_path / "conf"
    conf.mkdir()
    (conf / "config.yaml").write_text("defaults:\n  - data: shapes\n")
    inner = tmp_path / "demo/shapes/1_16/supervised/deeplabv3plus_r18/seed_0/copy"
    inner.mkdir()
    (inner / "config.yaml").write_text("a: 1")
    runs = find_runs([tmp_path, tmp_path / "demo", tmp_path / "demo/shapes/../shapes"])
    assert len(runs) == 8
    assert [run.folder for run in runs] == sorted(run.folder for run in runs)


def test_a_run_folder_itself_can_be_given(tmp_path):
    assert only(write_run(tmp_path)).method == "supervised"


def test_an_unfinished_run_is_known_by_its_place(tmp_path):
    write_run(tmp_path, "mean_teacher", seed=3, data="camvid", partition="1_8", unfinished=True, last_step=500)
    run = only(tmp_path)
    assert (run.status, run.result) == ("unfinished", None)
    assert (run.data, run.partition, run.method, run.seed) == ("camvid", "1_8", "mean_teacher", 3)
    assert (run.last_step, run.max_steps) == (500, STEPS)


def test_a_bare_config_is_an_unfinished_run(tmp_path):
    (tmp_path / "config.yaml").write_text("seed: 7\n")
    run = only(tmp_path)
    assert (run.status, run.seed, run.curves, run.images, run.last_step) == ("unfinished", 7, {}, {}, None)


@pytest.mark.parametrize(
    "text",
    [
        '{"status": "compl',
        "[]",
        '{"status": "great"}',
        '{"status": "completed", "miou": 3}',
        '{"status": "completed", "steps": "many"}',
        '{"status": "completed", "seed": "x"}',
        '{"status": "completed", "crop_size": [1, 2, 3]}',
        b"\xff\xfe\x00",
    ],
)
def test_a_damaged_result_is_named_and_skipped(tmp_path, caplog, text):
    folder = write_run(tmp_path)
    (folder / "result.json").write_bytes(text if isinstance(text, bytes) else text.encode())
    with caplog.at_level(logging.WARNING, logger="semiseg"):
        run = only(tmp_path)
    assert (run.status, run.result) == ("unreadable", None)
    assert run.method == "supervised"
    assert str(folder / "result.json") in run.problems[0]
    assert run.problems[0] in caplog.text


def test_numbers_that_are_missing_or_not_finite_are_none(tmp_path):
    write_run(tmp_path, result={"miou": {"best": math.nan, "last": 0.5}, "seconds_training": None})
    result = only(tmp_path).result
    assert (result.miou_best, result.miou_last, result.seconds_training) == (None, 0.5, None)


def metrics(tmp_path, text):
    (write_run(tmp_path) / "metrics.csv").write_bytes(text if isinstance(text, bytes) else text.encode())
    return only(tmp_path)


def test_metrics_are_merged_by_step_and_the_later_row_counts(tmp_path):
    text = "step,train/loss,val/miou,never\n10,1.5,,\n20,1.2,,\n20,,0.4,\n20,1.1,,\n10.0,1.4,,\n"
    curves = metrics(tmp_path, text).curves
    assert set(curves) == {"train/loss", "val/miou"}
    np.testing.assert_array_equal(curves["train/loss"].steps, [10, 20])
    np.testing.assert_array_equal(curves["train/loss"].values, [1.4, 1.1])
    np.testing.assert_array_equal(curves["val/miou"].values, [0.4])


def test_values_that_are_not_finite_stay_as_gaps(tmp_path):
    values = metrics(tmp_path, "step,val/miou\n1,0.5\n2,nan\n3,inf\n").curves["val/miou"].values
    np.testing.assert_array_equal(values, [0.5, np.nan, np.nan])


def test_a_line_that_is_still_being_written_is_not_read(tmp_path):
    run = metrics(tmp_path, "step,val/miou\n1,0.5\n2,0.1")
    np.testing.assert_array_equal(run.curves["val/miou"].steps, [1])
    assert run.problems == ()


def test_damaged_lines_are_counted_and_skipped(tmp_path):
    run = metrics(tmp_path, "step,val/miou\n1,0.5\n2,0.6,9\nnan,1\n,2\n3,what\n4,0.7\n")
    np.testing.assert_array_equal(run.curves["val/miou"].steps, [1, 4])
    assert "metrics.csv: 4 damaged line(s) skipped, the first is line 3" in run.problems[0]


@pytest.mark.parametrize("text", ["a,b\n1,2\n", b"\xff\xfe step\n1\n"])
def test_metrics_that_cannot_be_read_leave_the_result(tmp_path, text):
    run = metrics(tmp_path, text)
    assert run.curves == {}
    assert run.result is not None
    assert "metrics.csv: skipped" in run.problems[0]


@pytest.mark.parametrize("text", ["", "step,x\n"])
def test_metrics_without_rows_are_no_problem(tmp_path, text):
    run = metrics(tmp_path, text)
    assert (run.curves, run.problems) == ({}, ())


@pytest.mark.parametrize(
    "legend",
    ["{", "{}", '{"classes": ["a"], "palette": []}', '{"classes": ["a"], "palette": [[0, 0, 300]]}', "[1]"],
)
def test_a_damaged_class_legend_is_named_and_skipped(tmp_path, legend):
    folder = write_run(tmp_path, images=True)
    (folder / "images" / "classes.json").write_text(legend)
    run = only(tmp_path)
    assert run.classes == ()
    assert "classes.json: skipped" in run.problems[0]


def test_wrong_folders_are_input_errors(tmp_path):
    with pytest.raises(InputError, match="no folder given"):
        find_runs([])
    with pytest.raises(InputError, match="no run found below .*" + tmp_path.name):
        find_runs([tmp_path])
    with pytest.raises(InputError, match="missing: no such folder"):
        find_runs([tmp_path / "missing"])


@pytest.mark.parametrize("status", ["completed", "failed"])
def test_a_copy_of_a_run_says_what_the_run_said(tmp_path, status):
    """``cp -r`` gives the files times of its own, in any order."""
    written = datetime.datetime.now(datetime.UTC)
    result = {"status": status, "error": None, "finished": written.isoformat(timespec="seconds")}
    folder = write_run(tmp_path / "one", result=result)
    sign = {"step": 900, "max_steps": 900, "time": written.timestamp(), "host": socket.gethostname(), "pid": 2**22 - 1}
    (folder / "progress.json").write_text(json.dumps(sign))
    os.utime(folder / "result.json", (1, 1))
    assert only(tmp_path).status == status
    if status == "failed":  # it went on later, and was killed
        (folder / "progress.json").write_text(json.dumps(sign | {"time": written.timestamp() + 60}))
        os.utime(folder / "result.json", (1, 1))
        assert only(tmp_path).status == "interrupted"
