"""Which constructors a configuration may name. Somebody else's checkpoint, run folder or recipe must not run code.

Hydra blocks some dangerous targets; this is an allowlist: the constructors named in the shipped option files. The
check only reads text: nothing is imported before it.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator, Mapping
from typing import Any

import yaml
from omegaconf import DictConfig, ListConfig, OmegaConf

from semiseg.config.paths import conf_dir
from semiseg.errors import InputError

RECIPES = ("experiment", "sweep", "local")
"""Groups whose files are shared between users: they select constructors and cannot add any."""

LIBRARIES = frozenset({"pytorch_lightning.loggers.WandbLogger", "pytorch_lightning.loggers.TensorBoardLogger"})
"""Constructors of other packages allowed in the option files."""

OURS = re.compile(r"semiseg(\.\w+)+")
PLUGINS = re.compile(r"(hydra_plugins|hydra\._internal\.core_plugins)\.[\w.]+(Launcher|Sweeper)")
"""Launchers and sweepers of installed Hydra plugins: Hydra imports all of them at every start anyway."""

HANDLERS = frozenset({"logging.StreamHandler", "logging.NullHandler"})
"""Handlers allowed in Hydra's logging. A run adds log.txt to its folder itself."""

RESOLVERS = frozenset({"data_root", "run_name"})
CALL = re.compile(r"\$\{\s*([\w.]+)\s*:")
DEEPEST, MOST = 20, 20_000
"""Maximum number of levels and values of a configuration."""

NODE_KEYS = frozenset({"_target_", "_partial_"})


@functools.cache
def allowed_targets() -> frozenset[str]:
    """The constructors named in the shipped option files, excluding recipes."""
    found = set()
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # several times faster if libyaml is there
    for path in conf_dir().rglob("*.yaml"):
        if path.relative_to(conf_dir()).parts[0] not in RECIPES:
            content = yaml.load(path.read_text(encoding="utf-8"), loader)
            found |= {v for _, k, v in _walk(content) if k == "_target_"}
    return frozenset(t for t in found if t in LIBRARIES or OURS.fullmatch(t))


def check_trusted(node: Any, where: str, *, stored: bool = True) -> None:
    """Reject a configuration that names a constructor outside the allowlist, at any depth.

    Args:
        node: a configuration, or plain containers read from a file.
        where: its source, for the message: a file, or a key.
        stored: it comes from a file of a run, and may call only our own resolvers.

    Raises:
        InputError: names the key and the target.
    """
    if isinstance(node, (DictConfig, ListConfig)):
        node = OmegaConf.to_container(node, resolve=False)
    check_size(node, where)
    for path, key, value in _walk(node):
        if key == "_target_" and not (isinstance(value, str) and value in allowed_targets()):
            raise InputError(
                f"{where}: {path}={value!r} is not allowed: only constructors that semiseg's own option files name "
                "are run; nothing was loaded"
            )
        if key.startswith("_") and key.endswith("_") and key not in NODE_KEYS:
            raise InputError(f"{where}: the key {path} is not allowed in a stored configuration")
        if stored and isinstance(value, str) and (unknown := set(CALL.findall(value)) - RESOLVERS):
            raise InputError(
                f"{where}: {path} calls the resolver '{min(unknown)}': allowed are {', '.join(sorted(RESOLVERS))}"
            )


def check_size(node: Any, where: str) -> None:
    """Reject plain containers with cycles or heavily repeated references, which would take unbounded time to read.

    Raises:
        InputError: more levels or values than a configuration has.
    """
    for count, _ in enumerate(_walk(node)):
        if count > MOST:
            raise InputError(f"{where}: more than {MOST} values: not a configuration of semiseg")


def check_hydra(node: DictConfig) -> None:
    """Reject code that Hydra itself would run before a job starts: callbacks, foreign launchers, logging factories.

    Raises:
        InputError: names the key.
    """
    plain: Any = OmegaConf.to_container(node, resolve=False)
    for group in ("launcher", "sweeper"):
        for path, key, value in _walk(plain.get(group), f"hydra.{group}"):
            if key == "_target_" and not PLUGINS.fullmatch(str(value)):
                raise InputError(f"{path}={value!r} is not allowed: expected a launcher or sweeper of a Hydra plugin")
    for group in ("job_logging", "hydra_logging"):
        for path, key, value in _walk(plain.get(group), f"hydra.{group}"):
            if key == "()" or (".handlers." in path and key == "class" and value not in HANDLERS):
                raise InputError(f"{path}={value!r} is not allowed: handlers may be {', '.join(sorted(HANDLERS))}")
    if plain.get("callbacks"):
        raise InputError("hydra.callbacks is not allowed: semiseg runs no callbacks from a configuration")


def _walk(node: Any, path: str = "", depth: int = 0) -> Iterator[tuple[str, str, Any]]:
    """(dotted path, key, value) of everything below ``node``, including containers."""
    if isinstance(node, Mapping):
        items: Any = node.items()
    elif isinstance(node, (list, tuple)):
        items = enumerate(node)
    else:
        return
    if depth > DEEPEST:
        raise InputError(f"{path[:60]}... is nested more than {DEEPEST} levels deep: not a configuration of semiseg")
    for key, value in items:
        below = f"{path}.{key}" if path else str(key)
        yield below, str(key), value
        yield from _walk(value, below, depth + 1)
