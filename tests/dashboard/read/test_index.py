"""The index beside run folders: a report with it is the report without it, and what is stale is read again."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from semiseg.dashboard.outputs import write_report
from semiseg.dashboard.read import index
from semiseg.dashboard.read.cache import RunReader
from semiseg.dashboard.read.find import find_runs
from semiseg.dashboard.read.metrics import read_metrics
from support.fake_runs import write_run


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(index, "ENOUGH", 3)
    for method in ("supervised", "mean_teacher", "unimatch"):
        write_run(tmp_path / "runs", method, n_logged=5)
    return tmp_path / "runs"


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Methods whose metrics.csv were read."""
    found: list[str] = []

    def counted(path: Path, problems: list[str]) -> object:
        found.append(path.parents[2].name)
        return read_metrics(path, problems)

    counted.__name__ = "read_metrics"
    monkeypatch.setattr("semiseg.dashboard.read.run.read_metrics", counted)
    return found


def test_a_second_report_reads_no_metrics_and_says_the_same(runs: Path, read: list[str]) -> None:
    first = write_report([runs], runs / "report.html")
    page = first.html.read_text()
    assert (runs / index.INDEX).is_file() and len(read) == 3
    read.clear()
    again = write_report([runs], runs / "report.html")
    assert read == [] and again.html.read_text() == page
    for a, b in zip(first.runs, again.runs):
        assert a.metrics.last == b.metrics.last and a.last_step == b.last_step and a.curves.keys() == b.curves.keys()
        for name, curve in a.curves.items():
            assert np.array_equal(curve.steps, b.curves[name].steps)
            assert np.array_equal(curve.values, b.curves[name].values, equal_nan=True)


def test_a_file_that_has_changed_is_read_again(runs: Path, read: list[str]) -> None:
    find_runs([runs])
    read.clear()
    (changed,) = runs.glob("*/*/*/unimatch/*/*/metrics.csv")
    lines = changed.read_text().splitlines(keepends=True)
    changed.write_text("".join([*lines, "9999" + lines[-1][lines[-1].index(",") :]]))
    found = {run.method: run.last_step for run in find_runs([runs])}
    assert read == ["unimatch"] and found["unimatch"] == 9999


@pytest.mark.parametrize("damage", [b"", b"PK\x03\x04 half of a file", "cut", "version", "curve", "folder"])
def test_a_damaged_index_is_made_anew(damage: bytes | str, runs: Path, read: list[str]) -> None:
    find_runs([runs])
    path = runs / index.INDEX
    whole = path.read_bytes()
    if isinstance(damage, bytes):
        path.write_bytes(damage)
    elif damage == "cut":
        path.write_bytes(whole[:-200])
    elif damage == "folder":
        path.unlink()
        path.mkdir()
    else:
        with np.load(path) as stored:
            arrays = dict(stored)
        if damage == "version":
            arrays["facts"] = np.frombuffer(bytes(arrays["facts"]).replace(b'"version": 1', b'"version": 0'), np.uint8)
        else:
            arrays["steps"] = arrays["steps"][:3]
        np.savez(path, **arrays)
    read.clear()
    assert len(find_runs([runs])) == 3 and len(read) == 3
    if damage != "folder":
        read.clear()
        assert len(find_runs([runs])) == 3 and not read


def test_a_folder_that_takes_no_files_is_reported_on(
    runs: Path, read: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path) -> None:
        raise PermissionError(path)

    monkeypatch.setattr(index, "replacing", refuse)
    for _ in range(2):
        assert len(find_runs([runs])) == 3
    assert len(read) == 6 and not (runs / index.INDEX).exists()


def test_a_watched_study_writes_its_index_now_and_then(runs: Path) -> None:
    reader = RunReader()
    find_runs([runs], reader)
    written = (runs / index.INDEX).stat().st_mtime_ns
    write_run(runs, "unimatch", 1, n_logged=5)
    assert len(find_runs([runs], reader)) == 4
    assert (runs / index.INDEX).stat().st_mtime_ns == written, "one of four is not enough"
    for seed in (2, 3):
        write_run(runs, "unimatch", seed, n_logged=5)
    find_runs([runs], reader)
    assert (runs / index.INDEX).stat().st_mtime_ns > written
