"""Where the configuration lies and how it is composed. Free of torch: the command line starts fast."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from omegaconf import DictConfig, OmegaConf, open_dict

from semiseg.config.paths import conf_dir
from semiseg.config.quoting import quote_paths
from semiseg.config.resolvers import register_resolvers
from semiseg.config.trust import check_hydra, check_trusted

__all__ = ["compose_config", "compose_run", "conf_dir", "without_hydra"]

register_resolvers()  # on import: a stored configuration resolves too


def compose_config(overrides: Sequence[str] = ()) -> DictConfig:
    """Compose ``config.yaml`` with Hydra overrides. Raises Hydra's own errors; see ``check.check_overrides``."""
    return _trusted(_composed(overrides))


def compose_run(overrides: Sequence[str] = ()) -> tuple[DictConfig, Path]:
    """The configuration as ``compose_config`` has it, and the folder in which ``semiseg train`` would keep the run."""
    cfg = _composed(overrides)
    folder = Path(cfg.hydra.run.dir)
    return _trusted(cfg), folder


def _composed(overrides: Sequence[str]) -> DictConfig:
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(conf_dir()), version_base="1.3", job_name="semiseg"):
        return compose("config", overrides=quote_paths(overrides), return_hydra_config=True)


def _trusted(cfg: DictConfig) -> DictConfig:
    check_hydra(cfg.hydra)
    cfg = without_hydra(cfg, cfg.hydra.runtime.choices)
    check_trusted(cfg, "configuration", stored=False)
    return cfg


def without_hydra(cfg: DictConfig, choices: Mapping[str, str]) -> DictConfig:
    """The configuration of a run: without Hydra's node, with the options chosen; ``crop_size=N`` is a square."""
    typed = list(OmegaConf.select(cfg, "hydra.overrides.task", default=()))
    with open_dict(cfg):
        cfg.pop("hydra", None)
    given = {key: value for key, _, value in (override.lstrip("+").partition("=") for override in typed)}
    if given.get("epochs", "null") != "null" and "max_steps" not in given:
        cfg.max_steps = None  # the protocol's steps give way to what was typed
    cfg.choices = {name: choices.get(name) for name in ("data", "method", "model")}
    side = cfg.get("crop_size")
    if isinstance(side, int) and not isinstance(side, bool):
        cfg.crop_size = [side, side]
    return cfg
