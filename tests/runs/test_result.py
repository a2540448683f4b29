"""result.json has one reader, which takes whatever a file holds."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from semiseg.runs.result import DamagedResult, RunResult, parse_result, read_result


def write(folder: Path, value: object) -> Path:
    path = folder / "result.json"
    path.write_text(value if isinstance(value, str) else json.dumps(value))
    return path


def test_fields_that_are_missing_or_not_finite_are_none(tmp_path: Path) -> None:
    path = write(tmp_path, '{"status": "completed", "steps": 1e999, "miou": {"best": NaN, "last": 0.5}, "git": null}')
    result = parse_result(path)
    assert set(result) == set(RunResult.__annotations__)
    assert (result["steps"], result["seed"], result["data_fingerprint"]) == (None, None, None)
    assert result["miou"] == {"best": None, "best_step": None, "last": 0.5, "last_student": None, "last_teacher": None}
    assert result["git"] == {"commit": None, "dirty": None} and result["iou_per_class"] == {}


@pytest.mark.parametrize(
    "text,told",
    [
        ("[1, 2]", "expected a JSON object, found list"),
        ("{", "cannot be read"),
        ("", "cannot be read"),
        ("[" * 100_000, "cannot be read"),
        ('{"status": "done"}', "'status' is 'done'"),
        ("{}", "'status' is 'None'"),
        ('{"status": "failed", "seed": "x"}', "'seed' is 'x'"),
        ('{"status": "failed", "miou": [1]}', "'miou' is"),
        ('{"status": "failed", "iou_per_class": {"a": "b"}}', "'iou_per_class' is"),
    ],
)
def test_a_damaged_file_says_why(text: str, told: str, tmp_path: Path) -> None:
    with pytest.raises(DamagedResult, match=told):
        parse_result(write(tmp_path, text))
    assert read_result(tmp_path) is None


def test_no_file_is_no_result(tmp_path: Path) -> None:
    assert read_result(tmp_path) is None
    with pytest.raises(FileNotFoundError):
        parse_result(tmp_path / "result.json")
