"""Checkpoints: every part has a checksum, and what is no checkpoint of a run is said in a line."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
import torch

from semiseg.errors import InputError
from semiseg.runs.checkpoint import load_checkpoint

INFO = {"config": {"seed": 0}, "classes": ["a"], "palette": [[0, 0, 0]], "mean": [0.0] * 3, "std": [1.0] * 3}


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
        ({"semiseg": {**INFO, "config": [1]}}, "lacks a configuration"),
    ],
)
def test_what_is_no_checkpoint_of_a_run(changes: dict[str, Any], told: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=told):
        load_checkpoint(save(tmp_path / "x.ckpt", **changes))
