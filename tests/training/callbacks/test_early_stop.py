"""A run ends when its mIoU has not risen for some validations; killed and resumed, it ends at the same step."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from semiseg.config.check import check_overrides
from semiseg.errors import InputError
from semiseg.methods.base import SemiMethod
from support import breaking
from support.tiny import tiny

SCORES = {1: 0.2, 2: 0.5, 3: 0.4, 4: 0.5, 5: float("nan"), 6: 0.9, 7: 0.9}
RUN = tiny("max_steps=7", "val_every=1", "trainer.save_every=1", "diagnostics.panels=0", "early_stop.patience=3")


@pytest.fixture(autouse=True)
def scores(monkeypatch: pytest.MonkeyPatch) -> None:
    """mIoU by step, instead of what a network of two steps has."""
    log_dict = SemiMethod.log_dict

    def scored(self: SemiMethod, values: dict[str, float], **kwargs: Any) -> None:
        if "val/miou" in values:
            values["val/miou"] = SCORES[self.global_step]
        log_dict(self, values, **kwargs)

    monkeypatch.setattr(SemiMethod, "log_dict", scored)


def test_it_ends_after_so_many_validations_without_a_better_one(tmp_path: Path, caplog) -> None:
    caplog.set_level("INFO")
    result = breaking.run(tmp_path / "run", RUN)
    assert (result["status"], result["error"], result["steps"]) == ("completed", None, 5)
    told = "early stop at step 5 of 7: no better mIoU in 3 validations than 50.00 at step 2"
    assert result["stopped_early"] == told and told in caplog.text
    assert result["miou"]["best"] == pytest.approx(0.5) and result["miou"]["best_step"] == 2
    again = breaking.run(tmp_path / "run", RUN)
    assert again == result and "already complete" in caplog.text


@pytest.mark.parametrize("at", [1, 3, 4])
def test_killed_and_resumed_ends_at_the_same_step(at: int, tmp_path: Path) -> None:
    breaking.run(tmp_path / "unbroken", RUN)
    result = breaking.broken_run(tmp_path / "broken", RUN, at=at)
    assert (result["status"], result["steps"]) == ("completed", 5)
    breaking.assert_equal_weights(tmp_path / "unbroken", tmp_path / "broken")


def test_killed_after_the_decision_trains_no_further_step(tmp_path: Path) -> None:
    first = breaking.run(tmp_path / "run", RUN)
    (tmp_path / "run/result.json").unlink()
    again = breaking.run(tmp_path / "run", RUN)
    assert (again["status"], again["steps"], again["stopped_early"]) == ("completed", 5, first["stopped_early"])
    assert again["miou"] == first["miou"]


def test_off_by_default_and_enough_patience_change_nothing(tmp_path: Path) -> None:
    off = [o for o in RUN if not o.startswith("early_stop")]
    for name, overrides in (("off", off), ("patient", [*off, "early_stop.patience=4"])):
        result = breaking.run(tmp_path / name, overrides)
        assert (result["steps"], result["stopped_early"]) == (7, None)
    breaking.assert_equal_weights(tmp_path / "off", tmp_path / "patient")


@pytest.mark.parametrize(
    "more,told",
    [
        (["val_subset=1"], "early_stop.patience=3 with val_subset=1"),
        (["early_stop.patience=0"], "early_stop.patience=0: allowed are"),
    ],
)
def test_what_does_not_go_together_is_refused(more: Sequence[str], told: str) -> None:
    with pytest.raises(InputError, match=told):
        check_overrides([*RUN, *more])


def test_a_method_of_stages_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"early_stop\.patience=3: this method trains in stages"):
        breaking.run(tmp_path / "run", [*RUN, "method=stpp"])
    assert not (tmp_path / "run").exists()
