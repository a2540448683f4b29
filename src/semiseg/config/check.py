"""Turns mistakes in overrides into one line with the nearest valid name, before anything heavy is imported."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import IntervalSweep, Override
from hydra.errors import HydraException
from hydra.utils import get_object
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from semiseg.config import compose_config, conf_dir
from semiseg.config.migrate import RENAMED_OPTIONS
from semiseg.config.schema import RunConfig, check_values
from semiseg.config.trust import check_trusted
from semiseg.errors import InputError, suggest


def options(group: str) -> list[str]:
    """The option names of a group, nested ones with a slash: ``camvid/1_8``."""
    folder = conf_dir() / group
    names = (p.relative_to(folder).with_suffix("").as_posix() for p in folder.rglob("*.yaml"))
    return sorted(n for n in names if Path(n).name != "base")


def groups() -> list[str]:
    """The names of the groups."""
    return sorted(p.name for p in conf_dir().iterdir() if p.is_dir())


def top_level_names() -> list[str]:
    """Names of the groups, and of the keys at the top of the configuration."""
    return [*groups(), *RunConfig.__annotations__]


def check_overrides(overrides: Sequence[str]) -> None:
    """Check every override of a run or a sweep, and compose the first combination.

    Raises:
        InputError: unknown group, option or key (nearest match named), or a value of the wrong type or range.
    """
    parsed = _parse(overrides)
    known = groups()
    chosen: list[str] = []
    values: list[Override] = []
    for override in parsed:
        key = override.key_or_group
        if key.startswith("hydra"):
            continue
        if key in known:
            for value in _choices(override):
                _check_option(key, value)
            chosen.append(_first(override))
        else:
            values.append(override)

    base = _compose(chosen)
    data, protocol = base.choices.data, base.protocol.name
    if not protocol.startswith(data + "/"):
        wanted = protocol.split("/")[0]
        own = [o for o in options("protocol") if o.startswith(data + "/")]
        raise InputError(
            f"protocol={protocol} belongs to data={wanted}, not to data={data}: "
            f"add data={wanted}, or choose one of {', '.join(own)}"
        )
    keys = list(_flat_keys(base))
    for override in values:
        key = override.key_or_group
        if not override.is_add() and not override.is_force_add() and key not in keys:
            raise InputError(f"unknown key '{key}': {_nearest_key(key, [*keys, *known])}")
    check_values(_compose([*chosen, *(_first(o) for o in values)]))


def check_targets(cfg: DictConfig) -> None:
    """Check the keys of every ``_target_`` node against the signature of what it builds.

    Raises:
        InputError: a key the constructor does not take, or a required one that is missing.
    """
    check_trusted(cfg, "configuration", stored=False)
    for path, node in _target_nodes(cfg):
        target = get_object(node["_target_"])
        parameters = inspect.signature(target).parameters
        given = {str(k) for k in node if not str(k).startswith("_")}
        if not any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
            for key in sorted(given - parameters.keys()):
                raise InputError(f"unknown key '{path}.{key}' for {node['_target_']}: {suggest(key, parameters)}")
        missing = [
            name
            for name, p in parameters.items()
            if p.default is p.empty and p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY) and name not in given
        ]
        # What a builder passes in itself.
        missing = [m for m in missing if m not in ("parts", "save_dir")]
        if missing and not node.get("_partial_"):  # the caller of a partial gives the rest
            raise InputError(f"{path} needs the key '{missing[0]}' for {node['_target_']}")


def _compose(overrides: Sequence[str]) -> DictConfig:
    try:
        return compose_config(overrides)
    except (HydraException, OmegaConfBaseException) as e:
        raise InputError(" ".join(str(e).split())[:300]) from e


def _parse(overrides: Sequence[str]) -> list[Override]:
    try:
        return OverridesParser.create().parse_overrides(list(overrides))
    except HydraException as e:
        raise InputError(f"cannot read the overrides {' '.join(overrides)!r}: {str(e).splitlines()[0]}") from e


def _check_option(group: str, value: Any) -> None:
    allowed = options(group)
    for name in value if isinstance(value, list) else [value]:
        if (new := RENAMED_OPTIONS.get(group, {}).get(str(name))) is not None:
            raise InputError(f"{group}={name} is called {group}={new} now; see CHANGELOG.md")
        if name is not None and str(name) not in allowed:
            near = [o for o in allowed if "/" in o and o.split("/")[0] == str(name).split("/")[0]]
            raise InputError(f"unknown {group} '{name}': {suggest(str(name), near or allowed)}")


def _choices(override: Override) -> list[Any]:
    if override.is_sweep_override():
        return list(override.sweep_iterator()) if override.is_choice_sweep() else []
    value = override.value()
    return [value]


def _first(override: Override) -> str:
    """The override as typed, or with the first value of its sweep."""
    line = override.input_line or ""
    if not override.is_sweep_override():
        return line
    prefix = line.split("=", 1)[0]
    if override.is_interval_sweep():
        interval = override.value()
        assert isinstance(interval, IntervalSweep)
        return f"{prefix}={interval.start}"
    for value in override.sweep_string_iterator():
        return f"{prefix}={value}"
    return line


def _flat_keys(cfg: DictConfig, prefix: str = "") -> Iterator[str]:
    for key in map(str, cfg):
        if key == "_target_":
            continue
        yield f"{prefix}{key}"
        if not OmegaConf.is_missing(cfg, key) and not OmegaConf.is_interpolation(cfg, key):
            node = cfg[key]
            if isinstance(node, DictConfig):
                yield from _flat_keys(node, f"{prefix}{key}.")


def _nearest_key(key: str, keys: Sequence[str]) -> str:
    """Match the last part first: 'lr' should find 'optim.lr'."""
    same_leaf = [k for k in keys if k.split(".")[-1] == key.split(".")[-1]]
    if same_leaf:
        return f"did you mean '{same_leaf[0]}'?"
    parent = key.rsplit(".", 1)[0]
    siblings = [k for k in keys if "." in key and k.rsplit(".", 1)[0] == parent]
    return suggest(key, siblings or [k for k in keys if "." not in k])


def _target_nodes(cfg: Any, path: str = "") -> Iterator[tuple[str, DictConfig]]:
    if isinstance(cfg, DictConfig):
        if cfg.get("_target_"):
            yield path, cfg
        for key in map(str, cfg):
            if not OmegaConf.is_missing(cfg, key) and OmegaConf.is_config(cfg[key]):
                yield from _target_nodes(cfg[key], f"{path}.{key}" if path else key)


def apply_overrides(cfg: DictConfig, overrides: Sequence[str]) -> DictConfig:
    """A stored configuration with further overrides: ``eval=sliding``, ``data.root=DIR``, ``protocol=camvid/1_4``.

    Raises:
        InputError: as ``check_overrides``.
    """
    parsed = _parse(overrides)
    known = groups()
    chosen = [o for o in parsed if o.key_or_group in known]
    for override in chosen:
        _check_option(override.key_or_group, override.value())
    fresh = _compose([o.input_line or "" for o in chosen])
    for override in chosen:
        key = override.key_or_group
        for name in ("protocol", "crop_size") if key == "protocol" else (key,):
            cfg[name] = fresh[name]
    keys = list(_flat_keys(cfg))
    for override in parsed:
        key = override.key_or_group
        if key in known:
            continue
        if key not in keys:
            raise InputError(f"unknown key '{key}': {_nearest_key(key, [*keys, *known])}")
        OmegaConf.update(cfg, key, override.value())
    return cfg
