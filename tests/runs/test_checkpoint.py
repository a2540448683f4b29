"""Checkpoints: every part has a checksum, and what is no checkpoint of a run is said in a line."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
import torch

from semiseg.errors import InputError
from semiseg.runs.checkpoint import check_weights, load_checkpoint

CONFIG = {
    "method": {"_target_": "semiseg.methods.supervised.Supervised"},
    "model": {"_target_": "semiseg.models.tiny"},
}
INFO = {"config": CONFIG, "classes": ["a"], "palette": [[0, 0, 0]], "mean": [0.0] * 3, "std": [1.0] * 3}


def save(path: Path, **changes: Any) -> Path:
    whole = {"state_dict": {"w": torch.arange(500.0)}, "global_step": 3, "semiseg": INFO}
    torch.save({k: v for k, v in {**whole, **changes}.items() if v is not None}, path)
    return path


def test_a_flipped_bit_is_noticed_or_changes_nothing(tmp_path: Path) -> None:
    path = save(tmp_path / "last.ckpt")
    whole, draw, noticed = path.read_bytes(), random.Random(0), 0
    for _ in range(150):
        place, bit = draw.randrange(len(whole)), 1 << draw.randrange(8)
        path.write_bytes(whole[:place] + bytes([whole[place] ^ bit]) + whole[place + 1 :])
        try:
            loaded = load_checkpoint(path)
        except InputError:
            noticed += 1
        else:
            assert torch.equal(loaded["state_dict"]["w"], torch.arange(500.0)) and loaded["semiseg"] == INFO
    assert noticed > 75


@pytest.mark.parametrize(
    "changes,told",
    [
        ({"state_dict": None}, "lacks state_dict"),
        ({"semiseg": None}, "was not written by semiseg train"),
        ({"semiseg": [1]}, "was not written by semiseg train"),
        ({"semiseg": {k: v for k, v in INFO.items() if k != "config"}}, "lacks semiseg.config"),
        ({"semiseg": {**INFO, "config": [1]}}, r"wrong semiseg\.config"),
        ({"semiseg": {**INFO, "config": {**CONFIG, "model": None}}}, r"lacks semiseg\.config\.model"),
        ({"semiseg": {**INFO, "config": {**CONFIG, "method": {}}}}, r"lacks semiseg\.config\.method"),
        ({"semiseg": {**INFO, "mean": "x"}}, r"wrong semiseg\.mean"),
        ({"semiseg": {**INFO, "std": []}}, r"wrong semiseg\.std"),
        ({"semiseg": {**INFO, "std": [1.0]}}, "3 means and 1 deviations for images of 3 channels"),
        ({"semiseg": {**INFO, "classes": [1]}}, r"wrong semiseg\.classes\.0"),
        ({"semiseg": {**INFO, "palette": [[1]]}}, r"wrong semiseg\.palette\.0"),
        ({"semiseg": {**INFO, "palette": []}}, "1 classes and 0 colors"),
        ({"semiseg": {**INFO, "value_range": [0.0]}}, r"wrong semiseg\.value_range"),
        ({"state_dict": [1]}, "wrong state_dict"),
        ({"state_dict": {"w": 1}}, r"wrong state_dict\.w"),
        ({"global_step": "x"}, "wrong global_step"),
    ],
)
def test_what_is_no_checkpoint_of_a_run(changes: dict[str, Any], told: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=told):
        load_checkpoint(save(tmp_path / "x.ckpt", **changes))


@pytest.mark.parametrize(
    "weights,told",
    [
        ({"w": torch.zeros(499)}, r"w is \[499\] instead of \[500\]"),
        ({}, "w is missing"),
        ({"w": torch.zeros(500), "v": torch.zeros(1)}, "v is not expected"),
    ],
)
def test_weights_of_another_shape(weights: dict[str, Any], told: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=told):
        check_weights({"state_dict": weights}, {"w": torch.zeros(500)}, tmp_path / "x.ckpt")
