"""Every option composes, every target exists, every key is one its constructor takes."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from omegaconf import OmegaConf

from semiseg.config import compose_config, conf_dir
from semiseg.config.check import apply_overrides, check_overrides, groups, options
from semiseg.config.resolvers import run_suffix
from semiseg.config.schema import RunConfig
from semiseg.config.validate import check_config
from semiseg.errors import InputError
from semiseg.sweep.space import split_space

SINGLE = [g for g in groups() if g not in ("data", "protocol", "hydra", "experiment")]
FILES = sorted(conf_dir().rglob("*.yaml"))


@pytest.mark.parametrize("group,option", [(g, o) for g in SINGLE for o in options(g)])
def test_every_option_composes_and_its_keys_are_arguments(group: str, option: str) -> None:
    cfg = compose_config([f"{group}={option}"])
    cfg.num_classes = 3
    check_config(cfg)


@pytest.mark.parametrize("base", ["unimatch", "fixmatch", "fixmatch_ema", "mean_teacher"])
def test_the_base_of_a_method_is_a_choice_with_keys_of_its_own(base: str) -> None:
    overrides = ["method=s4mim", f"method@method.base={base}", "method.base.conf_threshold=0.5"]
    check_overrides(overrides)
    cfg = compose_config(overrides)
    cfg.num_classes = 3
    check_config(cfg)
    assert cfg.method.base == {**compose_config([f"method={base}"]).method, "conf_threshold": 0.5, "_partial_": True}
    assert cfg.choices.method == "s4mim" and run_suffix(overrides) != run_suffix(["method=s4mim"])


def test_mistakes_in_the_base_of_a_method_name_what_was_meant() -> None:
    with pytest.raises(InputError, match="did you mean 'fixmatch'"):
        check_overrides(["method=s4mim", "method@method.base=fixmtch"])
    with pytest.raises(InputError, match=r"did you mean 'method\.base\.conf_threshold'"):
        check_overrides(["method=s4mim", "method.base.conf_treshold=0.5"])


def test_a_glob_chooses_the_options_of_a_group() -> None:
    check_overrides(["method=glob(*)", "study=x"], multirun=True)
    check_overrides(["method=glob([fixmatch*,unimatch],exclude=fixmatch)", "method.conf_threshold=0.5"], multirun=True)
    with pytest.raises(InputError, match=r"method=glob\(zzz\*\): matches no option; allowed are allspark, augseg"):
        check_overrides(["method=glob(zzz*)"], multirun=True)
    with pytest.raises(InputError, match=r"seed=glob\(1\*\): .* seed is not a group"):
        check_overrides(["seed=glob(1*)"], multirun=True)
    _, space = split_space(["method=glob(fixmatch*)"])
    assert space["method"].choices == ("fixmatch", "fixmatch_ema")


@pytest.mark.parametrize("protocol", options("protocol"))
def test_every_protocol_composes_with_its_data_set(protocol: str) -> None:
    data = protocol.split("/")[0]
    cfg = compose_config([f"data={data}", f"protocol={protocol}"])
    check_config(cfg)
    if not protocol.endswith("/default"):
        assert cfg.protocol.name == protocol
    chosen = [cfg.protocol[k] is not None for k in ("labeled", "count", "fraction")]
    assert sum(chosen) == 1


@pytest.mark.parametrize("data", options("data"))
def test_every_data_set_has_a_default_protocol(data: str) -> None:
    assert compose_config([f"data={data}"]).protocol.name.startswith(f"{data}/")


@pytest.mark.parametrize("experiment", [o for o in options("experiment") if "/" not in o])  # others: test_recipes.py
def test_every_experiment_passes_the_command_line_checks(experiment: str) -> None:
    check_overrides([f"experiment={experiment}"])


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.relative_to(conf_dir()).as_posix())
def test_files_are_small_and_name_their_method(path: Path) -> None:
    lines = path.read_text().splitlines()
    limit = 20 if "experiment" in path.parts else 30
    if path.name != "config.yaml":
        assert len(lines) <= limit
    if path.parent.name == "method":
        assert lines[0].startswith("# ") and lines[0].count(" | ") == 3
    yaml.safe_load(path.read_text())


def test_the_schema_has_the_keys_of_the_configuration() -> None:
    assert set(compose_config()) == set(RunConfig.__dataclass_fields__)


def test_stored_configurations_load_again(tmp_path: Path) -> None:
    cfg = compose_config(["method=unimatch", "seed=3"])
    OmegaConf.save(cfg, tmp_path / "config.yaml")
    assert OmegaConf.load(tmp_path / "config.yaml") == cfg
    assert cfg.choices == {"data": "shapes", "method": "unimatch", "model": "tiny"}


def test_run_names_depend_on_what_changes_the_outcome_only() -> None:
    assert run_suffix(["method=unimatch", "seed=1", "study=x", "data.root=/somewhere", "loader.num_workers=4"]) == ""
    assert run_suffix(["logger=wandb", "logger.wandb.mode=online", "trainer.log_every=1", "overwrite=true"]) == ""
    one, two = run_suffix(["optim.lr=0.1"]), run_suffix(["optim.lr=0.2"])
    assert one != two and len(one) == 9 and one[0] == "_"
    assert run_suffix(["max_steps=3", "optim.lr=0.1"]) == run_suffix(["optim.lr=0.1", "max_steps=3"])


def test_overrides_on_a_stored_configuration() -> None:
    cfg = compose_config(["method=unimatch"])
    changed = apply_overrides(cfg, ["eval=sliding", "eval.window=[8,8]", "protocol.val_split=test"])
    assert changed.eval.window == [8, 8] and changed.protocol.val_split == "test"
    with pytest.raises(InputError, match=r"did you mean 'protocol\.val_split'"):
        apply_overrides(cfg, ["protocol.val_splt=test"])


def test_interpolations_stay_within_one_hop() -> None:
    for path in FILES:
        for value in _leaves(yaml.safe_load(path.read_text()) or {}):
            if isinstance(value, str) and value.startswith("${") and "hydra" not in str(path) and ":" not in value:
                target = OmegaConf.select(compose_config(), value.strip("${}"), default=None)
                assert not isinstance(target, str) or "${" not in target, (path, value)


def _leaves(node):
    if isinstance(node, dict):
        for value in node.values():
            yield from _leaves(value)
    elif isinstance(node, list):
        for value in node:
            yield from _leaves(value)
    else:
        yield node
