"""Configurations that the version of commit 84d0f3d stored."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf

from semiseg.config import compose_config
from semiseg.config.check import check_overrides
from semiseg.config.stored import read_config
from semiseg.config.trust import check_trusted
from semiseg.config.validate import check_config
from semiseg.errors import InputError
from semiseg.runs.checkpoint import load_checkpoint
from semiseg.runs.folder import differing_keys
from semiseg.runs.migrate import current_method, migrate
from semiseg.training.fit import train
from support.tiny import tiny

GUIDEDMIX = {
    "_target_": "semiseg.methods.guidedmix.GuidedMix", "mix_level": "feature", "pairing": "random", "lam_max": 0.4,
    "beta": 1.0, "decouple": "soft", "target_direction": "mixed", "loss": "focal", "unsup_weight": 10.0, "ramp": 0.0,
    "use_mitrans": False, "detach_reference": False, "average_ignored": True,
}  # fmt: skip
PAPER = GUIDEDMIX | {
    "mix_level": "image", "pairing": "similar", "target_direction": "plain", "loss": "mse", "unsup_weight": 1.0,
    "ramp": 0.1, "use_mitrans": True, "average_ignored": False,
}  # fmt: skip
OLD: dict[str, tuple[str, dict[str, Any]]] = {  # today's name: the old name, and what the old version stored
    "supervised": ("supervised", {"_target_": "semiseg.methods.supervised.Supervised"}),
    "cps": (
        "cps",
        {"_target_": "semiseg.methods.cps.CPS", "mixing": "cutmix", "weight": 1.0, "strong_colours": True},
    ),
    "allspark": (
        "allspark",
        {
            "_target_": "semiseg.methods.allspark.AllSpark",
            "memory_warmup": 0.0625,
            "strong_on": "unlabelled",
            "scores": "logits",
            "pseudo_label_per_image": False,
            "heads": 2,
            "dropout": 0.1,
            "use_bridge": True,
            "use_memory": True,
            "grouping": "score",
            "memory_sync": "rank0",
            "memory_at_eval": False,
        },
    ),
    "guidedmix_released": ("guidedmix", GUIDEDMIX),
    "guidedmix": ("guidedmix_paper", PAPER),
}


def stored(method: str) -> dict[str, Any]:
    """A whole configuration as it was stored: today's, with the names of then."""
    name, node = OLD[method]
    config: Any = OmegaConf.to_container(compose_config([f"method={method}"]))
    config["method"] = copy.deepcopy(node)
    config["choices"]["method"] = name
    config["transforms"]["_target_"] = "semiseg.data.transforms.TrainViews"
    config["optim"]["_target_"] = "semiseg.optim.SGDPoly"
    return config


@pytest.mark.parametrize("method", OLD)
def test_an_old_configuration_can_be_built(method: str) -> None:
    old = stored(method)
    before = copy.deepcopy(old)
    new = migrate(old)
    assert old == before
    check_trusted(new, "old run")
    cfg = OmegaConf.create(new)
    cfg.num_classes = 3
    check_config(cfg)
    assert new["choices"]["method"] == method
    assert new["transforms"]["_target_"] == "semiseg.data.views.transforms.TrainViews"
    assert new["optim"]["_target_"] == "semiseg.training.optim.SGDPoly"


def test_arguments_keep_their_values_under_the_new_names() -> None:
    assert migrate(stored("cps"))["method"]["strong_colors"] is True
    assert migrate(stored("allspark"))["method"]["strong_on"] == "unlabeled"
    released, paper = migrate(stored("guidedmix_released"))["method"], migrate(stored("guidedmix"))["method"]
    assert released == {
        "_target_": "semiseg.methods.guidedmix_released.GuidedMixReleased", "lam_max": 0.4, "beta": 1.0,
        "unsup_weight": 10.0,
    }  # fmt: skip
    assert paper == {
        "_target_": "semiseg.methods.guidedmix.GuidedMix", "lam_max": 0.4, "beta": 1.0, "unsup_weight": 1.0,
        "ramp": 0.1, "use_mitrans": True,
    }  # fmt: skip


def test_an_option_that_was_stored_as_a_secret_has_its_default() -> None:
    assert migrate({"method": {"token": "***"}}) == {"method": {"fill": "zero"}}
    assert migrate({"method": {"token": "learned"}}) == {"method": {"fill": "learned"}}


def test_views_that_moved_twice() -> None:
    old = {"transforms": {"_target_": "semiseg.data.transforms.MKDViews"}}
    assert migrate(old) == {"transforms": {"_target_": "semiseg.data.views.mkd.MKDViews"}}


def without(config: Any, *keys: str) -> Any:
    """A copy that lacks some dotted keys."""
    config = copy.deepcopy(config)
    for key in keys:
        *path, last = key.split(".")
        node = config
        for part in path:
            node = node[part]
        del node[last]
    return config


ADDED = [
    "method.unsup_warmup", "batch.auto", "batch.scale_lr", "val_subset", "trainer.checkpoint_activations",
    "protocol.seed", "transforms.padding_label",
]  # fmt: skip


def test_a_key_that_a_stored_configuration_lacks_has_its_default() -> None:
    config: Any = OmegaConf.to_container(compose_config(["method=allspark"]))
    for keys in (*([key] for key in ADDED), ADDED):
        assert differing_keys(without(config, *keys), config) == []
    config["batch"]["scale_lr"] = True
    assert differing_keys(without(config, "batch.scale_lr"), config) == [("batch.scale_lr", False, True)]
    config["method"]["unsup_warmup"] = 0.5
    assert differing_keys(without(config, "method.unsup_warmup", "batch.scale_lr"), config) == [
        ("method.unsup_warmup", 0.0, 0.5), ("batch.scale_lr", False, True)
    ]  # fmt: skip


def test_what_an_option_file_says_of_a_new_key_is_no_default() -> None:
    config: Any = OmegaConf.to_container(compose_config(["method=u2pl_released"]))
    assert differing_keys(without(config, "method.teacher_in_warmup"), config) == [
        ("method.teacher_in_warmup", "follows", "waits")
    ]


def test_keys_without_a_default_make_a_difference() -> None:
    config: Any = OmegaConf.to_container(compose_config())
    assert differing_keys(without(config, "optim.lr"), config) == [("optim.lr", None, config["optim"]["lr"])]
    assert differing_keys(config, config | {"new": 1}) == [("new", None, 1)]


def test_a_run_from_before_a_key_existed_is_the_same_run(tmp_path) -> None:
    overrides = tiny("diagnostics.panels=0", "method=mean_teacher")
    first = train(compose_config(overrides), tmp_path, overrides)
    config: Any = OmegaConf.to_container(OmegaConf.load(tmp_path / "config.yaml"))
    OmegaConf.save(OmegaConf.create(without(config, *ADDED[1:])), tmp_path / "config.yaml")
    assert train(compose_config(overrides), tmp_path, overrides) == first  # complete already
    with pytest.raises(InputError, match="val_subset is None there and 1 here"):
        train(compose_config([*overrides, "val_subset=1"]), tmp_path, overrides)


def test_a_nested_base_method_is_migrated_too() -> None:
    new = migrate({"method": {"_target_": "x", "on_labelled": True, "base": {"strong_colours": False}}})
    assert new == {"method": {"_target_": "x", "on_labeled": True, "base": {"strong_colors": False}}}


@pytest.mark.parametrize("method", ["supervised", "unimatch", "guidedmix", "guidedmix_released", "u2pl"])
def test_a_configuration_of_today_stays_as_it_is(method: str) -> None:
    config = OmegaConf.to_container(compose_config([f"method={method}"]))
    assert migrate(config) == config
    assert migrate(migrate(config)) == config


def test_a_run_from_before_the_options_for_own_data_keeps_its_identity() -> None:
    today: Any = OmegaConf.to_container(compose_config(["data=folder"]))
    old = copy.deepcopy(today)
    for key in ("early_stop", "init", "init_sha256"):
        del old[key]
    for group, keys in (
        ("data", ("balance", "channels", "labels")),
        ("loss", ("class_weights",)),
        ("protocol", ("folds", "fold")),
    ):
        for key in keys:
            del old[group][key]
    assert differing_keys(migrate(old), today) == []
    today["early_stop"]["patience"] = 3
    assert differing_keys(migrate(old), today) == [("early_stop.patience", None, 3)]


def test_switches_that_are_gone_are_told_in_one_line() -> None:
    old = stored("guidedmix_released")
    old["method"]["target_direction"] = "both"
    with pytest.raises(InputError, match="only the variants guidedmix and guidedmix_released"):
        migrate(old)


def test_checkpoints_and_folders_are_read_through_it(tmp_path) -> None:
    old = stored("guidedmix")
    facts = {"classes": ["a"], "palette": [[0, 0, 0]], "mean": [0.0] * 3, "std": [1.0] * 3}
    torch.save({"semiseg": {"config": old, **facts}, "state_dict": {}, "global_step": 1}, tmp_path / "old.ckpt")
    assert load_checkpoint(tmp_path / "old.ckpt")["semiseg"]["config"] == migrate(old)
    OmegaConf.save(OmegaConf.create(old), tmp_path / "config.yaml")
    assert read_config(tmp_path / "config.yaml") == migrate(old)


@pytest.mark.parametrize("method", OLD)
def test_the_report_calls_old_runs_by_todays_names(method: str) -> None:
    old = stored(method)
    assert current_method(OLD[method][0], old) == method
    assert current_method(method, migrate(old)) == method


def test_an_old_option_is_refused_with_its_new_name() -> None:
    with pytest.raises(InputError, match="method=guidedmix_paper is now named method=guidedmix"):
        check_overrides(["method=guidedmix_paper"])
