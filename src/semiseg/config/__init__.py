"""Location and composition of the configuration. Does not import torch, so that the command line starts fast."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from omegaconf import DictConfig, open_dict

from semiseg.config.paths import conf_dir
from semiseg.config.quoting import quote_paths
from semiseg.config.resolvers import register_resolvers
from semiseg.config.trust import check_hydra, check_trusted
from semiseg.config.validate import check_plugins
from semiseg.runs.source import source_digest

__all__ = ["compose_config", "compose_run", "conf_dir", "without_hydra"]

register_resolvers()  # on import, so that stored configurations resolve too


def compose_config(overrides: Sequence[str] = ()) -> DictConfig:
    """Compose ``config.yaml`` with Hydra overrides. Raises Hydra's own errors; see ``check.check_overrides``."""
    return _trusted(_composed(overrides))


def compose_run(overrides: Sequence[str] = ()) -> tuple[DictConfig, Path]:
    """The configuration as from ``compose_config``, and the run folder that ``semiseg train`` would use."""
    cfg = _composed(overrides)
    folder = Path(cfg.hydra.run.dir)
    return _trusted(cfg), folder


def _composed(overrides: Sequence[str]) -> DictConfig:
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(conf_dir()), version_base="1.3", job_name="semiseg"):
        return compose("config", overrides=quote_paths(overrides), return_hydra_config=True)


def _trusted(cfg: DictConfig) -> DictConfig:
    check_hydra(cfg.hydra)
    check_plugins(cfg.hydra)
    cfg = without_hydra(cfg, cfg.hydra)
    check_trusted(cfg, "configuration", stored=False)
    return cfg


def without_hydra(cfg: DictConfig, hydra: DictConfig) -> DictConfig:
    """The configuration of a run: without Hydra's node, with the run's own keys filled in and short forms expanded.

    ``crop_size=N`` is a square; ``epochs=N`` on its own replaces the ``max_steps`` of a protocol.

    Args:
        cfg: the composed configuration, with or without Hydra's node.
        hydra: Hydra's node.
    """
    typed = (override.lstrip("+").partition("=") for override in hydra.overrides.task)
    given = {key: value for key, _, value in typed}
    chosen = {name: hydra.runtime.choices.get(name) for name in ("data", "method", "model")}
    with open_dict(cfg):
        cfg.pop("hydra", None)
    if given.get("epochs", "null") != "null" and "max_steps" not in given:
        cfg.max_steps = None
    cfg.choices = chosen
    cfg.init_sha256 = None if cfg.init is None else source_digest(str(cfg.init))
    side = cfg.get("crop_size")
    if isinstance(side, int) and not isinstance(side, bool):
        cfg.crop_size = [side, side]
    return cfg
