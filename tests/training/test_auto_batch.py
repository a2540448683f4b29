"""The largest batch that fits: the choice, what is said of it, and that a resumed run keeps it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from semiseg.commands.train import _with_auto
from semiseg.config import compose_config
from semiseg.errors import InputError
from semiseg.training import auto_batch
from semiseg.training.auto_batch import largest
from semiseg.training.fit import train
from support.tiny import tiny

FITS = tiny("method=mean_teacher", "data.n_train=64", "batch.labeled=2", "batch.unlabeled=4", "batch.auto=true")


@pytest.mark.parametrize(
    "free,limit,expected",
    [(100, 99, (9, 100)), (99, 99, (8, 90)), (19, 99, (0, 10)), (100, 5, (5, 60)), (5, 99, (0, 10)), (20, 99, (1, 20))],
)
def test_the_largest_batch_on_a_line(free: int, limit: int, expected: tuple[int, int]) -> None:
    # 10 bytes for what is fixed, 10 a unit: a free byte less than needed is one unit less
    assert largest((30, 50), (2, 4), free, limit) == expected


def test_the_choice_is_told_kept_and_changes_no_learning_rate(tmp_path: Path, monkeypatch, caplog) -> None:
    monkeypatch.setattr(auto_batch, "step_peak", lambda s, d, batch, device: 1000 + 100 * batch.labeled)
    monkeypatch.setattr(auto_batch, "free_memory", lambda device: 1800)
    caplog.set_level("INFO")
    result = train(compose_config(FITS), tmp_path, FITS)
    assert (result["batch_labeled"], result["batch_unlabeled"]) == (6, 12)  # 0.9 * 1800 = 1000 + 100 * 6 + rest
    assert "batch=auto: 6 labeled + 12 unlabeled" in caplog.text and "learning rate 0.01 unchanged" in caplog.text
    assert json.loads((tmp_path / "batch.json").read_text())["labeled"] == 6

    def measured(*_):
        raise AssertionError("a resumed run has the batch that it began with")

    monkeypatch.setattr(auto_batch, "step_peak", measured)
    (tmp_path / "result.json").unlink()
    assert train(compose_config(FITS), tmp_path, FITS)["batch_labeled"] == 6


def test_the_learning_rate_grows_on_request(tmp_path: Path, monkeypatch, caplog) -> None:
    monkeypatch.setattr(auto_batch, "step_peak", lambda s, d, batch, device: 1000 + 100 * batch.labeled)
    monkeypatch.setattr(auto_batch, "free_memory", lambda device: 1800)
    caplog.set_level("INFO")
    overrides = [*FITS, "batch.scale_lr=true", "optim.lr=0.01"]
    train(compose_config(overrides), tmp_path, overrides)
    assert "learning rate 0.01 -> 0.03" in caplog.text


def test_a_real_measurement_grows_with_the_batch(tmp_path: Path) -> None:
    result = train(compose_config(FITS), tmp_path, FITS)
    found = json.loads((tmp_path / "batch.json").read_text())
    assert result["batch_labeled"] == found["labeled"] == 8  # as many as there are labeled images
    assert 0 < found["needed"] < found["free"]


def test_what_cannot_be_chosen_is_told(tmp_path: Path, monkeypatch) -> None:
    several = [*FITS, "trainer.devices=2"]
    monkeypatch.setattr("semiseg.training.fit.check_world", lambda processes: None)
    with pytest.raises(InputError, match="batch=auto measures one process"):
        train(compose_config(several), tmp_path, several)
    monkeypatch.setattr(auto_batch, "free_memory", lambda device: 1000)
    with pytest.raises(InputError, match="batch=auto: 2 labeled images need"):
        train(compose_config(FITS), tmp_path, FITS)


def test_the_short_form() -> None:
    assert _with_auto(["batch=auto", "seed=1"]) == ["batch.auto=true", "seed=1"]


def test_overwriting_chooses_anew_and_keeps_the_new_choice(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(auto_batch, "step_peak", lambda s, d, batch, device: 1000 + 100 * batch.labeled)
    for free, expected in ((1800, 6), (1600, 4)):
        monkeypatch.setattr(auto_batch, "free_memory", lambda device, free=free: free)
        overrides = [*FITS, "overwrite=true"]
        assert train(compose_config(overrides), tmp_path, overrides)["batch_labeled"] == expected
        assert json.loads((tmp_path / "batch.json").read_text())["labeled"] == expected
