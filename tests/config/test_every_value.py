"""Every scalar key of every option of every group, with every kind of wrong value: one line, nothing written.

The values come from the annotations (`support.bad_values`), the check is the one of the command line, in this process.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, OmegaConf

from semiseg.arguments import is_plain
from semiseg.config import _composed, compose_config, conf_dir
from semiseg.config.check import check_overrides, check_value_of, groups, options
from semiseg.config.schema import LIBRARY_NODES, RunConfig
from semiseg.config.signatures import parameters
from semiseg.config.validate import _fields, check_config, check_plugins
from semiseg.errors import InputError
from semiseg.sweep.plan import merge
from support.bad_values import bad_values, has_range

PLUGINS = ("hydra/launcher", "hydra/sweeper")
"""Groups of Hydra's whose options name constructors of ours; ``sweep`` chooses among the sweepers."""
GROUPS = [g for g in groups() if g not in ("hydra", "sweep", "experiment")]
OPTIONS = [(g, o) for g in GROUPS for o in options(g)]
UNBOUNDED = frozenset({"data.range"})
"""Number keys that any finite number fits."""
INSTEAD_OF_KEYS = [("text", "no_such_value"), ("number", 1.5), ("flag", True), ("list", [1]), ("mapping", {"no": 1})]
"""Wrong where an object with keys of its own is expected, or null."""
COUNT = {"keys": 0, "cases": 0}


def composed(group: str, option: str) -> DictConfig:
    """The option, with nothing left that only the user can say."""
    chosen = [f"{group}={option}"]
    if group in ("data", "protocol"):
        chosen.insert(0, f"data={option.split('/')[0]}")
    cfg = compose_config(list(dict.fromkeys(chosen)))
    if "root" in cfg.data:
        cfg.data.root = "somewhere"
    check_config(cfg)
    return cfg


def scalars(cfg: DictConfig) -> Iterator[tuple[str, Any]]:
    """(dotted key, type) of every key that holds a value."""
    yield from _of_schema(RunConfig, cfg, "")


def _of_schema(schema: type, node: Any, prefix: str) -> Iterator[tuple[str, Any]]:
    for key, hint in _fields(schema).items():
        value, where = OmegaConf.select(node, key), f"{prefix}{key}"
        if key in ("num_classes", "choices"):  # not to be set at all
            continue
        if is_plain(hint):
            yield where, hint
        elif hasattr(hint, "__dataclass_fields__"):
            yield from _of_schema(hint, value, f"{where}.")
        elif "_target_" in value:
            yield from _of_target(value, where)
        else:
            for name, child in value.items():
                yield from _of_target(child, f"{where}.{name}")


def _of_target(node: Any, path: str) -> Iterator[tuple[str, Any]]:
    if node._target_ in LIBRARY_NODES:
        yield from _of_schema(LIBRARY_NODES[node._target_], node, f"{path}.")
        return
    known = parameters(node._target_)
    for key in node:
        if str(key).startswith("_"):
            continue
        value = OmegaConf.select(node, key)
        if isinstance(value, DictConfig) and "_target_" in value:
            yield from _of_target(value, f"{path}.{key}")
        else:
            yield f"{path}.{key}", known[str(key)].hint


def keys_of(group: str, cfg: DictConfig) -> Iterator[tuple[str, Any]]:
    """Those keys of a composed configuration that a group sets."""
    about = {"protocol": ("protocol", "max_steps", "epochs", "val_every", "batch", "crop_size")}.get(group, (group,))
    for key, hint in scalars(cfg):
        if key.split(".")[0] in about:
            yield key, hint


def set_by(experiment: str) -> set[str]:
    """The dotted keys that a recipe sets, those of the groups that it chooses left out."""
    found = set()

    def walk(node: Any, prefix: str) -> None:
        for key, value in node.items():
            if isinstance(value, dict) and "_target_" not in value:
                walk(value, f"{prefix}{key}.")
            else:
                found.add(f"{prefix}{key}")

    recipe = yaml.safe_load((conf_dir() / f"experiment/{experiment}.yaml").read_text())
    walk({key: value for key, value in recipe.items() if key != "defaults"}, "")
    return found


@functools.cache
def override(key: str, value: Any) -> Any:
    """What Hydra makes of a value on the command line."""
    return OverridesParser.create().parse_override(f"{key}={value}").value()


def typed(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, dict):
        return "{" + ",".join(f"{k}:{typed(v)}" for k, v in value.items()) + "}"
    return "[" + ",".join(map(typed, value)) + "]" if isinstance(value, list) else str(value)


def try_all(cfg: DictConfig, keys: Iterator[tuple[str, Any]], known: set[tuple[str, str]]) -> list[str]:
    """The cases that were not refused as they should; none for keys of a known name and type."""
    wrong = []
    for key, hint in keys:
        COUNT["keys"] += 1
        if (key, str(hint)) in known:
            continue
        known.add((key, str(hint)))
        if is_plain(hint) and not has_range(hint) and key not in UNBOUNDED:
            wrong.append(f"{key}: no range ({hint})")
        values = bad_values(hint) if is_plain(hint) else iter(INSTEAD_OF_KEYS)
        for what, value in values:
            COUNT["cases"] += 1
            line = typed(value)
            try:
                check_value_of(cfg, key, override(key, line))
            except InputError as e:
                if "\n" in str(e) or key.split(".")[-1] not in str(e):
                    wrong.append(f"{key}={line}: {str(e)!r}")
            except Exception as e:
                wrong.append(f"{key}={line}: {type(e).__name__} {e}")
            else:
                wrong.append(f"{key}={line}: accepted ({what})")
    return wrong


def try_group(group: str, *, repeat: bool) -> list[str]:
    """Every option of a group. ``repeat``: also keys that an earlier option has with the same type."""
    wrong: list[str] = []
    known: set[tuple[str, str]] = set()
    for option in options(group):
        cfg = composed(group, option)
        wrong += [f"{group}={option} {line}" for line in try_all(cfg, keys_of(group, cfg), set() if repeat else known)]
    return wrong


def try_experiments(*, repeat: bool) -> list[str]:
    """Every key that a recipe sets, on the configuration of the recipe."""
    wrong: list[str] = []
    known: set[tuple[str, str]] = set()
    for name in options("experiment"):
        cfg = composed("experiment", name)
        keys = set_by(name)
        chosen = [(key, hint) for key, hint in scalars(cfg) if key in keys]
        assert chosen or not keys
        wrong += [f"experiment={name} {line}" for line in try_all(cfg, iter(chosen), set() if repeat else known)]
    return wrong


def plugin(group: str, option: str, sweep: str = "grid") -> DictConfig:
    """Hydra's node with one of its options chosen."""
    chosen = [f"sweep={sweep}"] if group == "sweep" else [f"{group}={option}"]
    return _composed(chosen).hydra


def try_plugin(group: str, option: str) -> list[str]:
    """Every argument of a launcher or sweeper, as ``hydra.launcher.n_jobs=x`` has it."""
    hydra, name = plugin(group, option, option), "sweeper" if group == "sweep" else group.split("/")[1]
    hydra.sweeper.params = {}
    check_plugins(hydra)
    wrong = []
    for key, parameter in parameters(hydra[name]._target_).items():
        COUNT["keys"] += 1
        hint, where = parameter.hint, f"hydra.{name}.{key}"
        if not is_plain(hint):  # of another library: it says what it takes
            assert key in ("params", "pruner_args", "setup", "additional_parameters"), key
            continue
        if not has_range(hint):
            wrong.append(f"{where}: no range ({hint})")
        for what, value in bad_values(hint):
            COUNT["cases"] += 1
            changed = hydra.copy()
            line = typed(value)
            try:
                OmegaConf.update(changed, where.removeprefix("hydra."), override(where, line), force_add=True)
                check_plugins(changed)
            except InputError as e:
                if "\n" in str(e) or key not in str(e):
                    wrong.append(f"{where}={line}: {str(e)!r}")
            else:
                wrong.append(f"{where}={line}: accepted ({what})")
    return wrong


@pytest.mark.parametrize("group", [*PLUGINS, "sweep"])
def test_every_wrong_value_of_a_launcher_or_sweeper_is_refused(group: str) -> None:
    for option in options(group):
        if option.startswith("slurm"):
            pytest.importorskip("submitit")
        wrong = try_plugin(group, option)
        assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("sweep", options("sweep"))
def test_a_sweep_file_with_a_wrong_value_is_refused(sweep: str) -> None:
    """The values of a sweep file are those of the command line."""
    params: Any = OmegaConf.to_container(plugin("sweep", sweep, sweep).sweeper.params)
    method = "method=fixmatch"
    for key, value in params.items():
        others = {k: v for k, v in params.items() if k != key}
        lines = merge({**others, key: value}, [] if key == "method" or "method" in params else [method])
        check_overrides(lines, multirun=True)
        for bad in ("no_such_value", "null", "-1"):
            COUNT["cases"] += 1
            with pytest.raises(InputError) as e:
                check_overrides([*(o for o in lines if not o.startswith(f"{key}=")), f"{key}={bad}"], multirun=True)
            assert "\n" not in str(e.value) and key.split(".")[-1] in str(e.value)


def test_every_wrong_value_of_a_recipe_is_refused(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    wrong = try_experiments(repeat=False)
    assert not wrong, f"{len(wrong)} cases:\n" + "\n".join(wrong)
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_every_wrong_value_of_every_single_recipe_is_refused() -> None:
    assert not try_experiments(repeat=True)


@pytest.mark.parametrize("group", GROUPS)
def test_every_wrong_value_of_a_group_is_refused(group: str, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    wrong = try_group(group, repeat=False)
    assert not wrong, f"{len(wrong)} cases:\n" + "\n".join(wrong)
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
@pytest.mark.parametrize("group", GROUPS)
def test_every_wrong_value_of_every_single_option_is_refused(group: str) -> None:
    assert not try_group(group, repeat=True)


def test_every_wrong_value_of_the_other_keys_is_refused(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    cfg = compose_config()
    wrong = try_all(cfg, ((key, hint) for key, hint in scalars(cfg) if key.split(".")[0] not in GROUPS), set())
    assert not wrong, "\n".join(wrong)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("which", ["of each name and type", pytest.param("of all options", marks=pytest.mark.slow)])
def test_how_many_cases_there_are(which: str, capsys) -> None:
    """The last test of this file: prints what the others of the same run have tried."""
    tried = len(OPTIONS) + sum(len(options(group)) for group in (*PLUGINS, "sweep", "experiment"))
    with capsys.disabled():
        print(f"\n{COUNT['cases']} wrong values of {COUNT['keys']} keys {which}, {tried} options, were tried")
