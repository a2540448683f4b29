"""Configurations of a sweep's jobs: composed once per combination of options, then copied for each plain value."""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, OverrideType
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException


class Composer:
    """Gives the same configuration as ``loader.load_sweep_config`` in a fraction of the time.

    Composing reads about twenty files, about 0.1 s of a core. The group overrides decide which ones; a plain value
    such as ``seed=3`` is set at the end. Jobs with the same group overrides share one composition.

    Args:
        loader: Hydra's configuration loader.
        config: the configuration of the sweep, with Hydra's node.
    """

    def __init__(self, loader: Any, config: DictConfig) -> None:
        self.loader, self.config = loader, config
        self._parser = OverridesParser.create(config_loader=loader)
        self._parsed: dict[str, Override] = {}
        self._plain: dict[str, bool] = {}
        # As bytes: copying is five times faster than with copy.deepcopy.
        self._bases: dict[tuple[str, ...], bytes] = {}
        # Plain values also change this part of Hydra's node, which our files do not refer to.
        self._uses_dirname = "override_dirname}" in OmegaConf.to_yaml(config)

    def __call__(self, overrides: Sequence[str]) -> DictConfig:
        """The configuration of a job, with Hydra's node.

        Raises:
            HydraException, OmegaConfBaseException: it does not compose.
        """
        parsed = [self._parse(line) for line in overrides]
        if self._uses_dirname or any(o.type is not OverrideType.CHANGE or o.is_hydra_override() for o in parsed):
            return self.loader.load_sweep_config(self.config, list(overrides))  # their order matters
        chosen = tuple(line for line, o in zip(overrides, parsed) if not self._is_plain(o))
        if chosen not in self._bases:
            self._bases[chosen] = pickle.dumps(self.loader.load_sweep_config(self.config, list(chosen)))
        cfg: DictConfig = pickle.loads(self._bases[chosen])
        OmegaConf.copy_cache(from_config=self.config, to_config=cfg)
        try:
            for o in parsed:
                if self._is_plain(o):
                    OmegaConf.update(cfg, o.key_or_group, o.value(), merge=True)
        except OmegaConfBaseException:
            return self.loader.load_sweep_config(self.config, list(overrides))  # for Hydra's own message
        cfg.hydra.overrides.task = list(overrides)
        return cfg

    def _parse(self, line: str) -> Override:
        if line not in self._parsed:
            (self._parsed[line],) = self._parser.parse_overrides([line])
        return self._parsed[line]

    def _is_plain(self, override: Override) -> bool:
        key = override.key_or_group
        if key not in self._plain:
            is_group = override.package is not None or self.loader.get_group_options(key, None) != []
            self._plain[key] = not is_group
        return self._plain[key]
