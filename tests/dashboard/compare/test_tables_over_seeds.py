import csv
import io
import itertools
import math
import random
import re

import pytest

from semiseg.dashboard.compare.stats import Stat, summarize
from semiseg.dashboard.compare.tables import make_sections
from semiseg.dashboard.read.find import find_runs
from semiseg.dashboard.text.formats import format_percent, format_seconds
from semiseg.dashboard.text.markdown import markdown
from semiseg.dashboard.text.tables_csv import csv_text
from support.fake_runs import write_run


def miou(best, last=None, student=None, teacher=None):
    last = best if last is None else last
    return {"miou": {"best": best, "last": last, "last_student": student, "last_teacher": teacher}}


def section(root):
    sections = make_sections(find_runs([root]))
    assert len(sections) == 1
    return sections[0]


def group(root, label):
    return next(g for g in section(root).groups if g.label == label)


def test_summarize_against_the_definition():
    values = [random.Random(1).random() for _ in range(7)]
    mean = sum(values) / 7
    std = math.sqrt(sum((v - mean) ** 2 for v in values) / 6)
    stat = summarize([None, *values])
    assert (stat.mean, stat.std, stat.n) == (pytest.approx(mean), pytest.approx(std), 7)
    assert summarize([0.3]) == Stat(0.3, None, 1)
    assert summarize([None]) is None
    assert summarize([]) is None


def test_aggregation_by_hand(tmp_path):
    for seed, (best, last) in enumerate([(0.60, 0.58), (0.64, 0.60), (0.62, 0.62)]):
        write_run(tmp_path, "unimatch", seed, result=miou(best, last, student=last - 0.02, teacher=last))
    unimatch = group(tmp_path, "unimatch")
    assert unimatch.miou_best == Stat(pytest.approx(0.62), pytest.approx(0.02), 3)
    assert unimatch.over_seeds(lambda r: r.miou_last) == Stat(pytest.approx(0.60), pytest.approx(0.02), 3)
    assert unimatch.over_seeds(lambda r: r.miou_last_student).mean == pytest.approx(0.58)
    assert [run.seed for run in unimatch.runs] == [0, 1, 2]
    assert unimatch.delta_best is None


def test_difference_is_paired_over_common_seeds(tmp_path):
    for seed, best in {0: 0.50, 1: 0.60, 5: 0.99}.items():
        write_run(tmp_path, "supervised", seed, result=miou(best, best - 0.1))
    for seed, best in {0: 0.55, 1: 0.68, 2: 0.10}.items():
        write_run(tmp_path, "unimatch", seed, result=miou(best, best - 0.2))
    unimatch = group(tmp_path, "unimatch")
    # Pairs are 0.55 - 0.50 and 0.68 - 0.60; seeds 2 and 5 have no partner.
    assert unimatch.delta_best == Stat(pytest.approx(0.065), pytest.approx(0.03 / math.sqrt(2)), 2)
    assert unimatch.delta_last.mean == pytest.approx(-0.035)
    assert group(tmp_path, "supervised").delta_best is None


@pytest.mark.parametrize(
    "other", [{"labeled_ids_sha256": "ab" * 32}, {"crop_size": 64}, {"crop_size": [96, 64]}, {"steps": 999}]
)
def test_runs_of_different_settings_are_never_averaged_or_compared(tmp_path, other):
    write_run(tmp_path, "supervised", 0, result=miou(0.5))
    write_run(tmp_path, "unimatch", 0, result=miou(0.6))
    write_run(tmp_path, "unimatch", 1, result=miou(0.9) | other)
    groups = [g for g in section(tmp_path).groups if g.key.method == "unimatch"]
    assert sorted(g.miou_best.mean for g in groups) == [0.6, 0.9]
    assert len({g.label for g in groups}) == 2
    deltas = {g.miou_best.mean: g.delta_best for g in groups}
    assert deltas[0.6].mean == pytest.approx(0.1)
    assert deltas[0.9] is None


def test_every_mixture_of_settings_is_split(tmp_path):
    choices = itertools.product(["aa" * 32, "bb" * 32], [64, 96], [100, 200], ["", "3fa2b1c4"])
    for i, (ids, crop, steps, suffix) in enumerate(choices):
        fields = {"labeled_ids_sha256": ids, "crop_size": crop, "steps": steps}
        write_run(tmp_path, study=f"s{i}", suffix=suffix, n_logged=2, result=miou(0.5) | fields)
    groups = section(tmp_path).groups
    assert [len(g.runs) for g in groups] == [1] * 16
    assert len({g.label for g in groups}) == 16


def test_methods_on_different_ids_are_told_apart_by_name(tmp_path):
    write_run(tmp_path, "supervised", 0)
    write_run(tmp_path, "unimatch", 0, result={"labeled_ids_sha256": "ab" * 32})
    labels = [g.label for g in section(tmp_path).groups]
    assert labels == ["supervised · ids 5f2a9c1b", "unimatch · ids abababab"]


def test_other_overrides_are_a_group_of_their_own_against_the_same_baseline(tmp_path):
    write_run(tmp_path, "supervised", 0, result=miou(0.5))
    write_run(tmp_path, "unimatch", 0, result=miou(0.6))
    write_run(tmp_path, "unimatch", 0, suffix="3fa2b1c4", result=miou(0.7))
    labels = [g.label for g in section(tmp_path).groups]
    assert labels == ["supervised", "unimatch · 3fa2b1c4", "unimatch · defaults"]
    assert group(tmp_path, "unimatch · 3fa2b1c4").delta_best.mean == pytest.approx(0.2)


def test_with_several_baselines_only_the_one_with_the_same_overrides_counts(tmp_path):
    write_run(tmp_path, "supervised", 0, suffix="aaaa", result=miou(0.5))
    write_run(tmp_path, "supervised", 0, suffix="bbbb", result=miou(0.4))
    write_run(tmp_path, "unimatch", 0, suffix="bbbb", result=miou(0.6))
    write_run(tmp_path, "unimatch", 0, suffix="cccc", result=miou(0.6))
    assert group(tmp_path, "unimatch · bbbb").delta_best.mean == pytest.approx(0.2)
    assert group(tmp_path, "unimatch · cccc").delta_best is None


def test_a_seed_counts_once_and_the_later_run_is_taken(tmp_path):
    write_run(tmp_path, study="a", result=miou(0.7) | {"finished": "2025-03-02T00:00:00"})
    write_run(tmp_path, study="b", result=miou(0.5) | {"finished": "2025-03-01T00:00:00"})
    only = section(tmp_path).groups[0]
    assert only.miou_best == Stat(0.7, None, 1)
    assert [run.study for run in only.repeated] == ["b"]
    assert only.repeated[0].folder.as_posix() in markdown([section(tmp_path)])


def test_only_completed_runs_with_a_score_are_aggregated(tmp_path):
    write_run(tmp_path, seed=0, result=miou(0.5))
    write_run(tmp_path, seed=1, result=miou(0.9) | {"status": "interrupted"})
    write_run(tmp_path, seed=2, result={"status": "failed", "miou": None, "error": "a\nValueError: x"})
    write_run(tmp_path, seed=3, unfinished=True, last_step=700)
    write_run(tmp_path, seed=4, result={"miou": None})
    part = section(tmp_path)
    assert part.groups[0].miou_best == Stat(0.5, None, 1)
    assert len(part.others) == 4
    text = markdown([part])
    assert "supervised seed 2: failed at step 2000 of 2000: ValueError: x" in text
    assert "supervised seed 3: unfinished at step 700 of 2000" in text


def test_sections_in_natural_order_and_supervised_first(tmp_path):
    for partition in ("183", "92", "u2pl_1_8"):
        write_run(tmp_path, data="voc", partition=partition, n_logged=2)
    write_run(tmp_path, "mean_teacher", data="voc", partition="92", n_logged=2)
    sections = make_sections(find_runs([tmp_path]))
    assert [s.partition for s in sections] == ["92", "183", "u2pl_1_8"]
    assert [g.label for g in sections[0].groups] == ["supervised", "mean_teacher"]


def test_classes_that_no_seed_could_score_stay_empty(tmp_path):
    write_run(tmp_path, seed=0, result={"iou_per_class": {"a": 0.2, "b": None}})
    write_run(tmp_path, seed=1, result={"iou_per_class": {"a": 0.4, "b": None}})
    scores = section(tmp_path).groups[0].iou_per_class
    assert scores["a"].mean == pytest.approx(0.3)
    assert scores["b"] is None


def test_markdown_shows_percent_and_cannot_be_broken_by_names(tmp_path):
    write_run(tmp_path, seed=0, result=miou(0.61239) | {"method": "a|b\n<i>"})
    text = markdown([section(tmp_path)])
    rows = [line for line in text.splitlines() if line.startswith("|")][:3]
    assert len({len(row) for row in rows}) == 1
    assert rows[2].startswith(r"| a\|b &lt;i> |")
    assert re.search(r"\| +61.24 \|", rows[2])
    assert "±" not in rows[2]


def test_csv_holds_fractions_and_keys(tmp_path):
    write_run(tmp_path, seed=0, result=miou(0.6))
    write_run(tmp_path, seed=3, result=miou(0.7))
    row = next(csv.DictReader(io.StringIO(csv_text([section(tmp_path)]))))
    assert (row["data"], row["method"], row["crop_size"], row["steps"]) == (
        "shapes",
        "supervised",
        "96x96",
        "2000",
    )
    assert row["seeds"] == "0 3"
    assert float(row["miou_best_mean"]) == pytest.approx(0.65)
    assert float(row["miou_best_std"]) == pytest.approx(0.070711)
    assert row["delta_best_mean"] == ""
    assert len(row["labeled_ids_sha256"]) == 64


def test_formats():
    assert format_percent(Stat(0.76534, 0.0042, 3)) == "76.53 ± 0.42"
    assert format_percent(Stat(-0.01, None, 1), signed=True) == "-1.00"
    assert format_percent(None) == "–"
    assert [format_seconds(s) for s in (None, 0.4, 59.6, 125, 3720)] == [
        "–", "0 s", "1 min 00 s", "2 min 05 s", "1 h 02 min",
    ]  # fmt: skip
