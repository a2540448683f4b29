"""Stored configurations of other people: they end quickly, and write nowhere but where the user says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf

from semiseg.config import compose_config
from semiseg.config.settings import stored_settings
from semiseg.config.stored import config_yaml, for_use, plain, read_config
from semiseg.config.trust import check_trusted
from semiseg.errors import InputError
from semiseg.runs.checkpoint import load_checkpoint

BOMB = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{n}: &{n} [{','.join(['*' + o] * 9)}]\n" for o, n in zip("abcdefgh", "bcdefghi")
)


@pytest.mark.parametrize(
    "text,message",
    [
        (BOMB, r"references \(\*a\) are not allowed"),
        ("a: " + "[" * 30_000, "nested more than 20 levels"),
        ("a: " + "{b: " * 100 + "1" + "}" * 100, "nested more than 20 levels"),
        ("x: " + "y" * 2_000_000, "larger than"),
        ("a: [1\nb: 2", "cannot be read"),
        ("- 1", "not a configuration"),
        ("a: !!python/object/apply:os.system [ls]", "cannot be read"),
        ("a: ${oc.env:HOME}", "resolver 'oc.env'"),
        ("a: ${b", "cannot be read"),
        ("a: !!set {b}", "is not a text or a number"),
        ("? [1]\n: 2", "cannot be read"),
        ("null: 2", "the key None is not a name"),
    ],
)
def test_a_hostile_file_is_one_line(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(text)
    with pytest.raises(InputError, match=message) as e:
        read_config(path)
    assert "\n" not in str(e.value) and len(str(e.value)) < 500


def test_a_file_is_read_as_omegaconf_reads_it(tmp_path: Path) -> None:
    text = """
a: 1e-3
b: 1.0e-05
c: 2024-01-02
d: [on, 'on', 0x1f, 017, 1_000, .inf, ~, '', .5, 1.]
e: {f: "${a}", 3: x}
g: 1:30
"""
    path = tmp_path / "config.yaml"
    path.write_text(text)
    expected = OmegaConf.to_container(OmegaConf.create(text))
    assert read_config(path) == {str(key): value for key, value in expected.items()}


def test_containers_that_hold_each_other_are_refused(tmp_path: Path) -> None:
    """A pickle has references where YAML has none."""
    cycle: dict[str, Any] = {}
    cycle["again"] = cycle
    with pytest.raises(InputError, match="nested more than 20 levels"):
        check_trusted({"data": cycle}, "file")
    bomb: Any = ["x"] * 10
    for _ in range(12):
        bomb = [bomb] * 10
    with pytest.raises(InputError, match="more than 20000 values"):
        check_trusted({"data": bomb}, "file")
    path = tmp_path / "x.ckpt"
    torch.save({"state_dict": {}, "semiseg": {"config": cycle}}, path)
    with pytest.raises(InputError, match="nested more than 20 levels"):
        load_checkpoint(path)


def test_what_a_run_writes_is_read_again(tmp_path: Path) -> None:
    config = plain(compose_config(["method=unimatch", "logger=wandb"]))
    (tmp_path / "config.yaml").write_text(config_yaml(config))
    assert read_config(tmp_path / "config.yaml") == config


def test_places_of_another_person_are_left_out_unless_given_again() -> None:
    stored = plain(
        compose_config(["data=voc", "data.root=d", "data.mask_cache=/home/x/y", "logger=wandb", "paths.runs=/z"])
    )
    used = stored_settings(stored).resolved
    assert used["logger"] == {} and used["paths"] == {"runs": "runs"} and used["data"]["mask_cache"] is None
    assert used["data"]["root"] == "d"
    again = stored_settings(stored, ["data.mask_cache=mine", "paths.runs=here"]).resolved
    assert again["data"]["mask_cache"] == "mine" and again["paths"]["runs"] == "here"


def test_keys_that_an_older_run_did_not_have_get_their_default() -> None:
    stored = plain(compose_config())
    del stored["trainer"]["on_nonfinite"], stored["diagnostics"]
    assert for_use(stored).trainer.on_nonfinite == "stop"
    assert stored_settings(stored).diagnostics.panels == 4
    del stored["data"]["size"]
    assert stored_settings(stored, ["data.size=[40,40]"]).resolved["data"]["size"] == [40, 40]
    stored["trainer"]["accelerator"] = "gpu"  # of its owner's machine
    assert stored_settings(stored).trainer.accelerator == "auto"
    assert stored_settings(stored, ["trainer.accelerator=gpu"]).trainer.accelerator == "gpu"
