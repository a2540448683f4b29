import csv
import io

import numpy as np
import pytest
from scipy import stats

from semiseg.dashboard.compare.overview import make_overviews
from semiseg.dashboard.compare.significance import compare
from semiseg.dashboard.compare.tables import make_sections
from semiseg.dashboard.read.find import find_runs
from semiseg.dashboard.text.markdown import markdown
from semiseg.dashboard.text.tables_csv import csv_text
from support.fake_runs import write_run


@pytest.mark.parametrize("n", [2, 3, 5, 10])
def test_the_paired_test_is_that_of_scipy(n):
    noise = np.random.default_rng(n)
    ours, theirs = noise.normal(0.02, 0.01, n), noise.normal(0, 0.01, n)
    expected = stats.ttest_rel(ours, theirs)
    found = compare((ours - theirs).tolist())
    assert found.p == pytest.approx(expected.pvalue)
    assert (found.low, found.high) == pytest.approx(tuple(expected.confidence_interval(0.95)))


def test_few_seeds_claim_nothing_that_they_cannot():
    assert compare([]) is None
    one = compare([0.03])
    assert (one.mean, one.n, one.low, one.high, one.p) == (0.03, 1, None, None, None)
    assert compare([0.03, 0.03]).p is None
    wide = compare([0.01, 0.05])
    assert wide.low < 0 < wide.high and wide.p > 0.05


def miou(value):
    return {"miou": {"best": value, "last": value}}


def test_one_column_per_set_of_ids_and_ranks_within_it(tmp_path):
    for partition, scores in {"1_8": {"supervised": 0.5, "unimatch": 0.6}, "1_16": {"supervised": 0.4}}.items():
        for method, score in scores.items():
            write_run(tmp_path, method, partition=partition, n_logged=2, result=miou(score))
    ids = miou(0.9) | {"labeled_ids_sha256": "ab" * 32}
    write_run(tmp_path, "unimatch", 1, partition="1_8", n_logged=2, result=ids)
    (overview,) = make_overviews(make_sections(find_runs([tmp_path])))
    assert overview.columns == ("1_8 · ids 5f2a9c1b", "1_8 · ids abababab", "1_16")
    assert list(overview.rows) == ["supervised", "unimatch"]
    ranks = {label: [overview.rank(label, i) for i in range(3)] for label in overview.rows}
    assert ranks == {"supervised": [2, None, None], "unimatch": [1, None, None]}  # alone in a column: no rank
    assert overview.mean_rank("supervised") == 2.0


def test_cost_counts_every_process_and_validation(tmp_path):
    write_run(tmp_path, result={"world_size": 4, "seconds_training": 3000.0, "seconds_validation": 600.0})
    sections = make_sections(find_runs([tmp_path]))
    assert sections[0].groups[0].hours.mean == pytest.approx(4.0)
    row = next(csv.DictReader(io.StringIO(csv_text(sections))))
    assert (row["device_hours_mean"], row["rank"], row["device"]) == ("4.0", "1", "device")
    assert row["overrides"] == "data=shapes protocol=shapes/1_16 method=supervised"
    write_run(tmp_path, "unimatch", result={"world_size": 1, "seconds_training": 3600.0, "seconds_validation": 0.0})
    text = markdown(make_sections(find_runs([tmp_path])))
    assert "4.00 device" in text and "1.00 device" in text


def test_the_interval_is_in_the_table_and_in_the_csv(tmp_path):
    for seed, (base, ours) in enumerate([(0.50, 0.52), (0.51, 0.55), (0.49, 0.52)]):
        write_run(tmp_path, "supervised", seed, n_logged=2, result=miou(base))
        write_run(tmp_path, "unimatch", seed, n_logged=2, result=miou(ours))
    sections = make_sections(find_runs([tmp_path]))
    expected = stats.ttest_rel([0.52, 0.55, 0.52], [0.50, 0.51, 0.49])
    low, high = (100 * end for end in expected.confidence_interval(0.95))
    assert f"{low:+.2f} to {high:+.2f}" in markdown(sections)
    row = next(r for r in csv.DictReader(io.StringIO(csv_text(sections))) if r["method"] == "unimatch")
    assert float(row["delta_last_p"]) == pytest.approx(expected.pvalue, abs=1e-6)
