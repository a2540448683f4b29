from __future__ import annotations

import csv
from pathlib import Path

from semiseg.config import compose_config
from semiseg.training.callbacks.csv_logger import CsvLogger
from semiseg.training.fit import train
from support.tiny import tiny


def rows(path: Path) -> list[dict[str, str]]:
    with path.open() as f:
        return list(csv.DictReader(f))


def test_new_columns_late_values_and_resume(tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    logger = CsvLogger(path)
    logger.log_metrics({"train/loss": 1.5}, step=10)
    logger.log_metrics({"train/loss": 1.25}, step=20)
    logger.log_metrics({"val/miou": 0.5}, step=20)
    assert rows(path) == [
        {"step": "10", "train/loss": "1.5", "val/miou": ""},
        {"step": "20", "train/loss": "1.25", "val/miou": "0.5"},
    ]
    resumed = CsvLogger(path)
    resumed.truncate(10)
    resumed.log_metrics({"train/loss": 1.125}, step=20)
    assert [r["step"] for r in rows(path)] == ["10", "20"]
    assert rows(path)[1]["train/loss"] == "1.125" and rows(path)[1]["val/miou"] == ""


def test_half_a_line_of_a_killed_run_is_dropped(tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    path.write_text("step,a,b\n1,0.5,0.25\n2,0.")
    logger = CsvLogger(path)
    logger.log_metrics({"c": 1.0}, step=3)
    assert [r["step"] for r in rows(path)] == ["1", "3"]


def test_a_damaged_line_in_the_middle_is_named(tmp_path: Path, caplog) -> None:
    path = tmp_path / "metrics.csv"
    path.write_text("step,a,b\n1,0.5,0.25\n2,0.\n3,0.25,0.5\n")
    CsvLogger(path).truncate(3)
    assert [r["step"] for r in rows(path)] == ["1", "3"]
    assert "damaged lines are left out: 3" in caplog.text


def test_a_checkpoint_waits_until_the_rows_before_it_are_on_the_disk(tmp_path: Path, monkeypatch) -> None:
    waited = []
    monkeypatch.setattr("semiseg.training.callbacks.csv_logger.sync", waited.append)
    train(compose_config(tiny("diagnostics.panels=0")), tmp_path)
    assert set(waited) == {tmp_path / "metrics.csv"}
