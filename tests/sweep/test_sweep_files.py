"""The ready sweep files, and sweeps by Hydra's and wandb's means, compose."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from hydra import compose, initialize_config_dir

from semiseg.config import compose_config, conf_dir
from semiseg.config.check import check_overrides, options
from semiseg.config.resolvers import run_suffix
from semiseg.sweep.plan import merge

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("name", options("sweep"))
def test_a_sweep_file_changes_no_run_and_its_params_are_valid(name: str) -> None:
    assert compose_config([f"sweep={name}"]) == compose_config()
    assert run_suffix([f"sweep={name}", "trial.number=3"]) == ""
    params = (
        yaml.safe_load((conf_dir() / "sweep" / f"{name}.yaml").read_text())
        .get("hydra", {})
        .get("sweeper", {})
        .get("params", {})
    )
    lines = merge(params, ["data=shapes"])
    kind = "OptunaSweeper" if "interval" in str(params) else "GridSweeper"
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        hydra = compose("config", [f"sweep={name}"], return_hydra_config=True).hydra
    assert hydra.sweeper._target_.endswith(kind) and hydra.launcher.n_jobs == 1
    check_overrides(lines if "method" in params else [*lines, "method=fixmatch"])


def test_a_sweep_file_names_the_methods_that_have_its_key() -> None:
    for name, key in (("loss_weight", "unsup_weight"), ("threshold", "conf_threshold")):
        second = (conf_dir() / "sweep" / f"{name}.yaml").read_text().splitlines()[1]
        named = second[second.index("(") + 1 : second.index(")")].split(", ")
        assert named == [m for m in sorted(options("method")) if key in compose_config([f"method={m}"]).method], name


def test_the_command_of_a_wandb_agent_composes() -> None:
    sweep = yaml.safe_load((ROOT / "experiments/wandb_sweep/sweep.yaml").read_text())
    first = {
        key: facts["values"][0] if "values" in facts else facts["min"] for key, facts in sweep["parameters"].items()
    }
    command: list[str] = []
    for word in sweep["command"]:  # as the agent fills it in
        command += [f"{k}={v}" for k, v in first.items()] if word == "${args_no_hyphens}" else [word]
    assert command[:3] == ["${env}", "semiseg", "train"] and all("=" in word for word in command[3:])
    check_overrides(command[3:])
    cfg = compose_config(command[3:])
    assert cfg.optim.lr == 0.001 and cfg.method.conf_threshold == 0.8 and cfg.logger.wandb.mode == "online"
    assert sweep["metric"]["name"] == "val/miou"
