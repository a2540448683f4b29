"""Length of a run, and what result.json and the summary say."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from semiseg.commands.evaluate import main as evaluate_main
from semiseg.config import compose_config
from semiseg.errors import InputError
from semiseg.runs.checkpoint import load_checkpoint
from semiseg.runs.folder import differing_keys
from semiseg.runs.result import RunResult
from semiseg.training.fit import train
from support.tiny import tiny

SMALL = tiny("batch.unlabeled=4", "val_every=100", "max_steps=")


@pytest.mark.parametrize("method", ["supervised", "fixmatch"])
def test_an_epoch_is_one_pass_over_the_unlabeled_list_for_every_method(method: str, tmp_path: Path) -> None:
    overrides = [*SMALL, f"method={method}", "max_steps=null", "epochs=2"]
    result = train(compose_config(overrides), tmp_path, overrides)
    assert result["n_unlabeled"] == 14 and result["steps"] == 2 * (14 // 4)
    again = train(compose_config(overrides), tmp_path, overrides)
    assert again == result == json.loads((tmp_path / "result.json").read_text())
    assert evaluate_main([f"run={tmp_path}", f"output={tmp_path}/scores.json"]) == 0
    scores = json.loads((tmp_path / "scores.json").read_text())
    assert scores["miou"]["student"] == pytest.approx(result["miou"]["last_student"])


def test_result_json_has_every_promised_field(tmp_path: Path) -> None:
    overrides = [*SMALL, "method=mean_teacher", "max_steps=1", "study=s", "seed=3"]
    result = train(compose_config(overrides), tmp_path, overrides)
    assert set(result) == set(RunResult.__annotations__)
    assert result["command"].startswith("semiseg train 'data.size=[48,48]'")
    assert (result["study"], result["seed"], result["data"], result["partition"]) == ("s", 3, "shapes", "1_8")
    assert len(result["labeled_ids_sha256"]) == 64 and result["official"] is None
    assert set(result["miou"]) == {"best", "best_step", "last", "last_student", "last_teacher"}
    assert result["miou"]["last"] == result["miou"]["last_teacher"] and 0 <= result["miou"]["last"] <= 1
    assert set(result["iou_per_class"]) == set(json.loads((tmp_path / "images/classes.json").read_text())["classes"])
    assert result["classes_counted"] == sum(v is not None for v in result["iou_per_class"].values())
    assert result["images_per_second"] > 0 and result["peak_memory_mb"] > 0 and "torch" in result["versions"]


def test_no_unlabeled_images_is_an_error_for_a_method_that_needs_them(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="unlabeled list of shapes is empty"):
        train(compose_config(tiny("method=fixmatch", "max_steps=1", "protocol=shapes/all")), tmp_path)
    assert not list(tmp_path.iterdir())
    everything = compose_config(tiny("max_steps=1", "protocol=shapes/all", "batch.unlabeled=0"))
    assert train(everything, tmp_path)["n_unlabeled"] == 0


def test_a_crash_leaves_its_reason_behind(tmp_path: Path, monkeypatch) -> None:
    def broken(self, batch):
        raise ZeroDivisionError("by hand")

    monkeypatch.setattr("semiseg.methods.supervised.Supervised.step", broken)
    with pytest.raises(ZeroDivisionError):
        train(compose_config([*SMALL, "max_steps=1"]), tmp_path)
    result = json.loads((tmp_path / "result.json").read_text())
    assert result["status"] == "failed" and result["error"] == "ZeroDivisionError: by hand"
    assert "ZeroDivisionError: by hand" in (tmp_path / "log.txt").read_text()


def test_a_broken_last_checkpoint_falls_back_to_the_one_before(tmp_path: Path, caplog) -> None:
    overrides = [*SMALL, "method=mean_teacher", "max_steps=4", "trainer.save_every=1"]
    train(compose_config(overrides), tmp_path, overrides)
    last, before = (tmp_path / f"checkpoints/{name}.ckpt" for name in ("last", "previous"))
    whole = load_checkpoint(last)
    assert (whole["global_step"], load_checkpoint(before)["global_step"]) == (4, 3)
    last.write_bytes(last.read_bytes()[:1000])
    (tmp_path / "result.json").unlink()
    train(compose_config(overrides), tmp_path, overrides)
    assert "last.ckpt cannot be read" in caplog.text and "previous.ckpt instead, at step 3" in caplog.text
    again = load_checkpoint(last)
    assert again["global_step"] == 4
    assert all(torch.equal(whole["state_dict"][k], v) for k, v in again["state_dict"].items())


def test_differing_keys_look_at_what_is_computed_only() -> None:
    old = {"optim": {"lr": 1}, "paths": {"runs": "a"}, "trainer": {"log_every": 1, "devices": 1}}
    new = {"optim": {"lr": 2}, "paths": {"runs": "b"}, "trainer": {"log_every": 2, "devices": 2}, "extra": 1}
    assert differing_keys(old, new) == [("optim.lr", 1, 2), ("trainer.devices", 1, 2), ("extra", None, 1)]
