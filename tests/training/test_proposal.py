"""What is proposed for a folder and a machine: facts in, choices out."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest

from semiseg.config import compose_config
from semiseg.config.check import check_overrides
from semiseg.config.validate import check_config
from semiseg.training.proposal import (
    MINUTES,
    STEPS,
    FolderFacts,
    MachineFacts,
    Proposal,
    propose,
    with_length,
)

FOLDER = FolderFacts(labeled=40, unlabeled=400, validation=10, short=480, long=640, shares={"ground": 0.7, "tree": 0.3})
LAPTOP = MachineFacts(cores=4)
GPU = MachineFacts(cores=16, gpu="GPU", gpu_gb=24.0)


def values(proposal: Proposal) -> dict[str, str]:
    return dict(o.split("=", 1) for o in proposal.overrides)


@pytest.mark.parametrize(
    "machine", [LAPTOP, GPU, replace(GPU, gpu_gb=4.0, bf16=False), replace(LAPTOP, packaged=False)]
)
@pytest.mark.parametrize("short", [20, 48, 200, 3000])
@pytest.mark.parametrize("unlabeled", [0, 7])
def test_every_proposal_is_a_valid_command(machine: MachineFacts, short: int, unlabeled: int) -> None:
    folder = replace(FOLDER, short=short, long=2 * short, unlabeled=unlabeled, shares={"ground": 0.995, "pole": 0.005})
    overrides = ["data=folder", "data.root=photos", *propose(folder, machine).overrides]
    check_overrides(overrides)
    check_config(compose_config(overrides))
    assert len({o.split("=", 1)[0] for o in overrides}) == len(overrides), "nothing is said twice"


def test_every_choice_has_a_reason() -> None:
    for machine in (LAPTOP, GPU):
        assert all(choice.reason for choice in propose(FOLDER, machine).choices)


def test_a_gpu_gets_the_real_run_and_a_laptop_minutes() -> None:
    laptop, gpu = values(propose(FOLDER, LAPTOP)), values(propose(FOLDER, GPU))
    assert (laptop["model"], gpu["model"]) == ("deeplabv3plus_lite0", "deeplabv3plus_lite2")
    assert laptop["trainer"] == "cpu" and gpu["trainer"] == "gpu"
    assert gpu["max_steps"] == "4000" and int(laptop["max_steps"]) <= max(STEPS)
    assert int(laptop["crop_size"]) < int(gpu["crop_size"])
    assert with_length(propose(FOLDER, GPU), GPU, seconds=5.0) == propose(FOLDER, GPU)


def test_the_length_on_a_cpu_follows_from_the_measured_step() -> None:
    before = 10**9
    for seconds in (0.01, 0.1, 1.0, 2.0, 5.9):
        steps = int(values(with_length(propose(FOLDER, LAPTOP), LAPTOP, seconds))["max_steps"])
        assert steps in STEPS and steps * seconds <= 60 * MINUTES and steps <= before
        before = steps
    slow = with_length(propose(FOLDER, LAPTOP), LAPTOP, 100.0)
    assert values(slow)["max_steps"] == str(STEPS[0]) and "hardly useful" in slow.choices[-1].reason


def test_the_method_fits_the_data_and_the_weights() -> None:
    assert values(propose(replace(FOLDER, unlabeled=0), LAPTOP))["method"] == "supervised"
    assert "batch.unlabeled" not in values(propose(replace(FOLDER, unlabeled=0), LAPTOP))
    assert values(propose(FOLDER, LAPTOP))["method"] == "unimatch"
    without = propose(FOLDER, replace(LAPTOP, packaged=False))
    assert (values(without)["method"], values(without)["model"]) == ("mean_teacher", "tiny")
    assert any("semiseg[pretrained]" in note for note in without.notes)


def test_large_photos_are_seen_small_in_training_and_in_validation() -> None:
    found = values(propose(replace(FOLDER, short=3000, long=4000), LAPTOP))
    assert found["eval.within"].startswith("[192,") and found["transforms.scale"] == "[0.032,0.13]"
    assert "eval" not in values(propose(replace(FOLDER, short=150, long=200), LAPTOP))


def test_rare_classes_get_a_dice_term() -> None:
    assert "loss" not in values(propose(FOLDER, LAPTOP))
    found = propose(replace(FOLDER, shares={"ground": 0.991, "pole": 0.009, "ghost": 0.0}), LAPTOP)
    assert values(found)["loss"] == "ce_dice"
    (reason,) = (c.reason for c in found.choices if c.name == "loss")
    assert "pole" in reason and "ghost" not in reason


def test_what_the_user_has_set_is_left_to_the_user() -> None:
    whole = propose(FOLDER, LAPTOP)
    for key, gone in {
        "model": "model", "model.weights": "model", "eval": "size", "eval.within": "size", "epochs": "steps",
        "max_steps": "steps", "method": "method", "crop_size": "crop", "batch.labeled": "batch",
    }.items():  # fmt: skip
        left = [c.name for c in propose(FOLDER, LAPTOP, {key}).choices]
        assert left == [c.name for c in whole.choices if c.name != gone]
    only_val_every = with_length(propose(FOLDER, LAPTOP, {"val_every"}), LAPTOP, 1.0)
    assert values(only_val_every)["max_steps"] == "500" and "val_every" not in values(only_val_every)
    assert with_length(propose(FOLDER, LAPTOP, {"max_steps"}), LAPTOP, 1.0) == propose(FOLDER, LAPTOP, {"max_steps"})


def test_notes_name_what_would_help() -> None:
    assert not propose(FOLDER, LAPTOP).notes
    assert "downloads its weights" in propose(FOLDER, GPU).notes[0]


def test_a_batch_is_not_larger_than_the_list() -> None:
    for labeled, machine in itertools.product((1, 2, 3, 5, 100), (LAPTOP, GPU)):
        batch = int(values(propose(replace(FOLDER, labeled=labeled), machine))["batch.labeled"])
        assert 2 <= batch <= max(2, labeled)
