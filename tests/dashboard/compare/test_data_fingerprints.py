"""Runs on different data never share a table."""

import csv
import json

import pytest

from semiseg.dashboard.compare.overview import make_overviews
from semiseg.dashboard.compare.tables import make_sections
from semiseg.dashboard.read.find import find_runs
from semiseg.dashboard.report import write_report
from support.fake_runs import write_run

A, B = {"data_fingerprint": "aa" * 32}, {"data_fingerprint": "bb" * 32}


def sections(root):
    return make_sections(find_runs([root]))


def with_root(folder, root):
    with (folder / "config.yaml").open("a") as file:
        file.write(f"data:\n  root: {root}\n")


def test_two_fingerprints_make_two_sections_that_are_told_apart(tmp_path):
    for seed, fields in enumerate((A, A, B)):
        write_run(tmp_path, seed=seed, n_logged=2, result=fields)
    found = sections(tmp_path)
    assert [s.title for s in found] == [
        "shapes / 1_16 / deeplabv3plus_r18 (data aaaaaaaa)",
        "shapes / 1_16 / deeplabv3plus_r18 (data bbbbbbbb)",
    ]
    assert [len(group.runs) for s in found for group in s.groups] == [2, 1]
    report = write_report([tmp_path], tmp_path / "report.html")
    assert "data aaaaaaaa" in report.html.read_text() and "(data bbbbbbbb)" in report.text
    assert [row["data_note"] for row in csv.DictReader(report.csv.open())] == ["data aaaaaaaa", "data bbbbbbbb"]


def test_a_method_is_not_compared_with_a_baseline_on_other_data(tmp_path):
    write_run(tmp_path, "supervised", n_logged=2, result=A)
    write_run(tmp_path, "unimatch", n_logged=2, result=B)
    assert all(group.delta_best is None for s in sections(tmp_path) for group in s.groups)


def test_older_runs_without_a_fingerprint_are_a_group_of_their_own(tmp_path):
    write_run(tmp_path, seed=0, n_logged=2, result=A)
    write_run(tmp_path, seed=1, n_logged=2)
    assert [s.data_note for s in sections(tmp_path)] == ["data not recorded", "data aaaaaaaa"]


def test_older_runs_on_two_data_folders_share_no_table(tmp_path):
    for seed, root in enumerate(("d/ok", "d/other")):
        with_root(write_run(tmp_path, seed=seed, n_logged=2), root)
    assert [s.data_note for s in sections(tmp_path)] == ["data folder d/ok", "data folder d/other"]


def test_a_moved_data_folder_is_the_same_data(tmp_path):
    for seed, root in enumerate(("d/ok", "elsewhere/ok")):
        with_root(write_run(tmp_path, seed=seed, n_logged=2, result=A), root)
    (only,) = sections(tmp_path)
    assert (only.data_note, len(only.groups[0].runs)) == ("", 2)


def test_runs_that_have_not_said_their_data_yet_stay_with_the_others(tmp_path):
    write_run(tmp_path, seed=0, n_logged=2, result=A)
    with_root(write_run(tmp_path, seed=1, n_logged=2, unfinished=True), "d/ok")
    (only,) = sections(tmp_path)
    assert (len(only.groups), len(only.others)) == (1, 1)


def test_an_overview_holds_one_validation_set(tmp_path):
    for i, (partition, val) in enumerate({"1_8": "v1", "1_16": "v1", "1_4": "v2"}.items()):
        fields = {"data_fingerprint": f"{i}" * 64, "validation_fingerprint": val}
        write_run(tmp_path, partition=partition, n_logged=2, result=fields)
    (overview,) = make_overviews(sections(tmp_path))
    assert overview.columns == ("1_8", "1_16")


def test_a_run_without_a_result_is_placed_by_the_record_of_its_data(tmp_path):
    write_run(tmp_path, seed=0, n_logged=2, result=A)
    write_run(tmp_path, seed=1, n_logged=2, result=B)
    folder = write_run(tmp_path, seed=2, n_logged=2, unfinished=True)
    (folder / "data.json").write_text(json.dumps({"digest": "bb" * 32, "root": "d", "parts": {}}))
    assert [(s.data_note, len(s.others)) for s in sections(tmp_path)] == [("data aaaaaaaa", 0), ("data bbbbbbbb", 1)]


@pytest.mark.parametrize("content", ["[]", "{}", "{"])
def test_a_damaged_record_is_named(tmp_path, content):
    (write_run(tmp_path, n_logged=2) / "data.json").write_text(content)
    (run,) = find_runs([tmp_path])
    assert "data.json: skipped" in run.problems[0] and run.status == "completed"


def test_an_overview_of_older_runs_needs_equal_counts_and_classes(tmp_path):
    for partition, n_val in {"1_8": 64, "1_16": 64, "1_4": 65}.items():
        write_run(tmp_path, partition=partition, n_logged=2, result={"n_val": n_val})
    (overview,) = make_overviews(sections(tmp_path))
    assert overview.columns == ("1_8", "1_16")


def test_own_lists_are_named_by_their_hash_whatever_protocol_they_started_from(tmp_path):
    lists = ["protocol.labeled=my/list.txt"]
    folder = write_run(tmp_path, data="voc", partition="classic_366", n_logged=2, overrides=lists)
    write_run(tmp_path, seed=1, data="voc", partition="classic_366", n_logged=2)
    assert [s.partition for s in sections(tmp_path)] == ["classic_366", "custom_5f2a9c1b"]
    assert "list" in write_report([folder], tmp_path / "r.html").html.read_text()


def test_warnings_about_the_data_and_undefined_classes_are_shown_once(tmp_path):
    fields = {"data_warnings": ["3 masks fit no image"], "iou_per_class": {"a": 0.5, "b <i>": None}}
    for seed in range(2):
        write_run(tmp_path, seed=seed, n_logged=2, result=fields)
    report = write_report([tmp_path], tmp_path / "report.html")
    page = report.html.read_text()
    assert page.count("3 masks fit no image") == 1
    assert "IoU of b &lt;i&gt; is not defined" in page
    assert "- Warning: 3 masks fit no image" in report.text and "IoU of b &lt;i> is not defined" in report.text
