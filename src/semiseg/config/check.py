"""Reports mistakes in overrides in one line with the nearest valid name, before any heavy import."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Glob, IntervalSweep, Override, QuotedString
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from semiseg.arguments import shown
from semiseg.config import compose_config, conf_dir
from semiseg.config.quoting import quote_paths
from semiseg.config.schema import RunConfig
from semiseg.config.validate import check_config
from semiseg.errors import InputError, suggest
from semiseg.runs.renamed import check_renamed

FILLED_IN = ("num_classes", "choices", "init_sha256")
"""Keys that a run fills in."""


def options(group: str) -> list[str]:
    """The option names of a group, nested ones with a slash: ``camvid/1_8``."""
    folder = conf_dir() / group
    names = (p.relative_to(folder).with_suffix("").as_posix() for p in folder.rglob("*.yaml"))
    return sorted(n for n in names if Path(n).name != "base")


def groups() -> list[str]:
    """The names of the groups."""
    return sorted(p.name for p in conf_dir().iterdir() if p.is_dir())


def top_level_names() -> list[str]:
    """Names of the groups and of the top-level keys of the configuration."""
    return [*groups(), *RunConfig.__annotations__]


def check_overrides(overrides: Sequence[str], *, multirun: bool = False) -> None:
    """Check every override of a run or a sweep: each value of a sweep together with the first values of the others.

    Combinations of values are checked when the sweep composes its jobs, before the first one starts.

    Args:
        overrides: as typed.
        multirun: a comma separates sweep values, even in keys whose paths or names may contain one.

    Raises:
        InputError: unknown group, option or key (nearest match named), or a value of the wrong type or range.
    """
    known = groups()
    of_hydra: list[str] = []
    chosen: list[str] = []
    values: list[Override] = []
    for override in _parse(quote_paths(overrides, multirun=multirun)):
        key = override.key_or_group
        if key.split(".")[0].split("/")[0] == "hydra":
            of_hydra.append(_first(override))
        elif key in known:
            if override.is_delete():
                raise InputError(f"~{key}: a group cannot be removed, choose one of its options")
            for value in _choices(override):
                _check_option(key, value)
            chosen.append(_first(override))
        else:
            values.append(override)

    base = _compose(chosen)
    _check_belongs(base)
    keys = list(_flat_keys(base))
    for override in values:
        _check_key(override, [*keys, *known])
    cfg = _compose([*of_hydra, *chosen, *(_first(o) for o in values)])
    _check_length(values)
    check_config(cfg)
    for override in values:
        for value in _choices(override)[1:]:
            check_value_of(cfg, override.key_or_group, value)


def check_value_of(cfg: DictConfig, key: str, value: Any) -> None:
    """Check a configuration with one additional value.

    Raises:
        InputError: as `check_overrides`.
    """
    changed = cfg.copy()
    try:
        OmegaConf.update(changed, key, value, force_add=True)
    except OmegaConfBaseException as e:
        raise InputError(f"{key}={shown(value)}: {str(e).splitlines()[0]}") from e
    check_config(changed)


def _check_belongs(cfg: DictConfig) -> None:
    data, protocol = cfg.choices.data, cfg.protocol.name
    if not protocol.startswith(data + "/"):
        wanted = protocol.split("/")[0]
        own = [o for o in options("protocol") if o.startswith(data + "/")]
        raise InputError(
            f"protocol={protocol} belongs to data={wanted}, not to data={data}: "
            f"add data={wanted}, or choose one of {', '.join(own)}"
        )


def _check_length(values: Sequence[Override]) -> None:
    given = {o.key_or_group: o.value() for o in values if o.key_or_group in ("max_steps", "epochs")}
    if len(given) == 2 and None not in given.values():
        raise InputError(
            f"max_steps={given['max_steps']} and epochs={given['epochs']}: give one of them "
            "(an epoch is one pass over the unlabeled list)"
        )


def _check_key(override: Override, known: Sequence[str]) -> None:
    key = override.key_or_group
    if key.split(".")[0] in FILLED_IN:
        raise InputError(f"{key} cannot be set: it is filled in automatically")
    if not override.is_add() and not override.is_force_add() and key not in known:
        raise InputError(f"unknown key '{key}': {_nearest_key(key, known)}")


def _compose(overrides: Sequence[str]) -> DictConfig:
    try:
        return compose_config(overrides)
    except (HydraException, OmegaConfBaseException) as e:
        line = " ".join(str(e).split())[:300]
        missing = "; install it with pip install 'semiseg[slurm]'" if "submitit" in line else ""
        raise InputError(f"{line}{missing}") from e


def _parse(overrides: Sequence[str]) -> list[Override]:
    try:
        return OverridesParser.create().parse_overrides(list(overrides))
    except HydraException as e:
        raise InputError(f"cannot read the overrides {' '.join(overrides)!r}: {str(e).splitlines()[0]}") from e


def _check_option(group: str, value: Any) -> None:
    allowed = options(group)
    for name in value if isinstance(value, list) else [value]:
        if name is None or str(name) not in allowed:
            check_renamed(group, str(name))
            near = [o for o in allowed if "/" in o and o.split("/")[0] == str(name).split("/")[0]]
            raise InputError(f"unknown {group} '{shown(name)}': {suggest(str(name), near or allowed)}")


def _choices(override: Override) -> list[Any]:
    """The values of an override; for an interval, its two ends."""
    value = override.value()
    if isinstance(value, IntervalSweep):
        return [value.start, value.end]
    if isinstance(value, Glob):
        return globbed(override.key_or_group, value)
    if override.is_sweep_override():
        return [v.text if isinstance(v, QuotedString) else v for v in override.sweep_iterator()]
    return [value]


def globbed(group: str, pattern: Glob) -> list[str]:
    """The options of a group that ``group=glob(...)`` chooses; like Hydra, not those with a slash.

    Raises:
        InputError: there is none.
    """
    allowed = [o for o in options(group) if "/" not in o] if group in groups() else []
    if not (found := pattern.filter(allowed)):
        raise InputError(
            f"{group}=glob({', '.join(pattern.include)}): matches no option; "
            + (f"allowed are {', '.join(allowed)}" if allowed else f"{group} is not a group of options")
        )
    return found


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
    if isinstance(glob := override.value(), Glob):
        return f"{prefix}={globbed(override.key_or_group, glob)[0]}"
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


def apply_overrides(cfg: DictConfig, overrides: Sequence[str]) -> DictConfig:
    """Apply additional overrides to a stored configuration: ``eval=sliding``, ``protocol=camvid/1_4``.

    Raises:
        InputError: as ``check_overrides``.
    """
    parsed = _parse(quote_paths(overrides))
    known = groups()
    chosen = [o for o in parsed if o.key_or_group in known]
    for override in chosen:
        _check_option(override.key_or_group, override.value())
    fresh = _compose([o.input_line or "" for o in chosen])
    for override in chosen:
        key = override.key_or_group
        for name in ("protocol", "crop_size") if key == "protocol" else (key,):
            cfg[name] = fresh[name]
    keys = [*_flat_keys(cfg), *known]
    for override in parsed:
        if override.key_or_group not in known:
            _check_key(override, keys)
            OmegaConf.update(cfg, override.key_or_group, override.value())
    return cfg
