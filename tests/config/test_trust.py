"""Files of other people run no code: checkpoints, run folders, recipes."""

from __future__ import annotations

import shutil
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from omegaconf import DictConfig, OmegaConf
from PIL import Image

import semiseg.dashboard.report
import semiseg.training.evaluate
import semiseg.training.predict  # noqa: F401  # what the commands import
from semiseg.commands import evaluate, predict, report
from semiseg.config import compose_config, conf_dir
from semiseg.config.check import check_overrides
from semiseg.config.make import make
from semiseg.config.stored import plain
from semiseg.config.trust import allowed_targets, check_hydra, check_trusted
from semiseg.config.validate import check_config
from semiseg.errors import InputError
from semiseg.runs.checkpoint import load_checkpoint
from semiseg.runs.folder import RunFolder

DANGEROUS = [
    "torch.utils.collect_env.run", "mako.template.Template", "torch.hub.load", "torch.load", "sympy.sympify",
    "semiseg.runs.files.write_json", "os.system", "subprocess.Popen", "builtins.eval", "builtins.exec",
    "builtins.open", "pickle.loads", "importlib.import_module", "runpy.run_path", "shutil.rmtree",
    "pathlib.Path.write_text",
    "hydra.utils.instantiate", "semiseg.cli.main", "code.interact", "pytorch_lightning.Trainer", "antigravity.anything",
]  # fmt: skip
DEPTHS = ["data", "method.ema", "transforms.size", "model.a.b.c", "logger.mine.list"]


@cache
def honest() -> DictConfig:
    return compose_config(["method=mean_teacher"])


def poisoned(target: Any, depth: str) -> dict[str, Any]:
    """A stored configuration with a foreign constructor at a dotted place; in a list where it says so."""
    cfg: Any = OmegaConf.to_container(honest())
    *parents, last = depth.split(".")
    node = cfg
    for name in parents:
        if not isinstance(node.get(name), dict):
            node[name] = {}
        node = node[name]
    evil = {"_target_": target, "command": "touch OWNED"}
    node[last] = [1, [evil]] if last == "list" else evil
    return cfg


@pytest.fixture
def nothing_imported():
    before = set(sys.modules)
    yield
    assert not {m for m in set(sys.modules) - before if m.split(".")[0] in ("antigravity", "mako", "code", "runpy")}


@pytest.mark.parametrize("depth", DEPTHS)
@pytest.mark.parametrize("target", DANGEROUS)
def test_a_dangerous_target_is_refused_before_anything_is_imported(
    target: str, depth: str, tmp_path: Path, nothing_imported
) -> None:
    cfg = poisoned(target, depth)
    path = tmp_path / "x.ckpt"
    torch.save({"state_dict": {}, "semiseg": {"config": cfg, "classes": ["a"]}}, path)
    with pytest.raises(InputError, match=r"x.ckpt: .*_target_.* is not allowed"):
        load_checkpoint(path)
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(cfg))
    with pytest.raises(InputError, match=r"config.yaml: .*_target_.* is not allowed"):
        RunFolder(tmp_path).claim(plain(honest()), {})
    with pytest.raises(InputError, match="is not allowed"):
        check_config(OmegaConf.create(cfg))
    with pytest.raises(InputError, match="is not allowed"):
        make(OmegaConf.create(cfg), depth.split(".")[0])


@pytest.mark.parametrize("depth", DEPTHS)
def test_the_commands_refuse_a_dangerous_target(
    depth: str, tmp_path: Path, nothing_imported, monkeypatch, capsys
) -> None:
    monkeypatch.chdir(tmp_path)
    run = Path("runs/s/shapes/1_8/mean_teacher/tiny/seed_0")
    (run / "checkpoints").mkdir(parents=True)
    Image.new("RGB", (8, 8)).save("photo.png")
    for target in DANGEROUS:
        cfg = poisoned(target, depth)
        torch.save({"state_dict": {}, "semiseg": {"config": cfg, "classes": ["a"]}}, run / "checkpoints/best.ckpt")
        (run / "config.yaml").write_text(yaml.safe_dump(cfg))
        for main, arguments in (
            (evaluate.main, [f"run={run}"]),
            (evaluate.main, [f"checkpoint={run}/checkpoints/best.ckpt", "eval=sliding"]),
            (predict.main, [f"checkpoint={run}/checkpoints/best.ckpt", "source=photo.png", "output=out"]),
        ):
            with pytest.raises(InputError, match=r"_target_.* is not allowed.*nothing was loaded"):
                main(arguments)
        assert report.main(["runs"]) == 0  # names and texts of a stored configuration, nothing is built from it
    assert sorted(path.name for path in Path().iterdir()) == ["photo.png", "runs"]
    assert "Traceback" not in capsys.readouterr().err


@pytest.mark.parametrize("target", [["os.system"], {"a": 1}, None, 3])
def test_a_target_that_is_no_name_is_refused(target: Any) -> None:
    with pytest.raises(InputError, match="is not allowed"):
        check_trusted({"data": {"_target_": target}}, "file")


@pytest.mark.parametrize(
    "node,message",
    [
        ({"a": "${oc.env:HOME}"}, "resolver 'oc.env'"),
        ({"a": ["x ${ oc.decode:${b}}"]}, "resolver 'oc.decode'"),
        ({"a": {"_args_": [1]}}, "key a._args_"),
        ({"a": {"_recursive_": False}}, "key a._recursive_"),
    ],
)
def test_a_stored_configuration_calls_no_foreign_resolver(node: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        check_trusted(node, "file")


@pytest.mark.parametrize("target", DANGEROUS)
def test_a_recipe_cannot_name_a_constructor(target: str, monkeypatch, tmp_path: Path, nothing_imported) -> None:
    tree = tmp_path / "conf"
    shutil.copytree(conf_dir(), tree)
    recipe = tree / "experiment/theirs.yaml"
    for module in ("semiseg.config", "semiseg.config.check", "semiseg.config.trust"):
        monkeypatch.setattr(f"{module}.conf_dir", lambda: tree)
    allowed_targets.cache_clear()
    for body in (
        {"model": {"_target_": target}},
        {"hydra": {"callbacks": {"mine": {"_target_": target}}}},
        {"hydra": {"launcher": {"_target_": target}}},
        {"hydra": {"job_logging": {"formatters": {"mine": {"()": target}}}}},
        {"hydra": {"job_logging": {"handlers": {"mine": {"class": target}}}}},
    ):
        recipe.write_text("# @package _global_\n" + yaml.safe_dump(body))
        with pytest.raises(InputError, match="is not allowed"):
            check_overrides(["experiment=theirs"])
    allowed_targets.cache_clear()


def test_everything_shipped_is_trusted() -> None:
    for logger in ("wandb", "tensorboard", "csv"):
        check_trusted(OmegaConf.to_container(compose_config([f"logger={logger}"])), "shipped")
    assert "pytorch_lightning.loggers.WandbLogger" in allowed_targets()
    assert not {t for t in allowed_targets() if not t.startswith(("semiseg.", "pytorch_lightning.loggers."))}
    joblib = "hydra_plugins.hydra_joblib_launcher.joblib_launcher.JoblibLauncher"
    check_hydra(OmegaConf.create({"launcher": {"_target_": joblib}}))
