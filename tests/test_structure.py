"""Which module may import which."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Collection
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src" / "semiseg"

# Lower layers first. A module imports from its own layer or below.
LAYERS = [
    {"errors"},
    {"arguments"},
    {"ops", "inference", "data.batch"},
    {"models", "metrics"},
    {"data"},
    {"config", "runs"},
    {"methods"},  # the package asks config for the facts in the option files, when it is called
    {"sweep", "dashboard"},
    {"training"},
    {"export"},
    {"api", "labeling"},
    {"commands"},
    {"cli"},
    {"__main__"},
]
CONFIGURED = {"commands", "config", "sweep"}  # who may know Hydra and its configurations
ONLY = {  # heavy libraries and who may import them
    "hydra": CONFIGURED,
    "omegaconf": CONFIGURED,
    "albumentations": {"data"},
    "timm": {"models"},
    "segmentation_models_pytorch": {"models"},
    "pytorch_lightning": {"methods", "data", "training"},
}


def modules() -> list[tuple[str, set[str]]]:
    found = []
    for path in SOURCE.rglob("*.py"):
        name = ".".join(path.relative_to(SOURCE).with_suffix("").parts).removesuffix(".__init__")
        names = set()
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                names |= {a.name for a in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                names |= {node.module} | {f"{node.module}.{a.name}" for a in node.names}
        found.append((name, names))
    return found


def layer(name: str) -> int | None:
    for i, members in enumerate(LAYERS):
        if name in members:
            return i
    top = name.split(".")[0]
    return next((i for i, members in enumerate(LAYERS) if top in members), None)


@pytest.mark.parametrize("name,imports", modules(), ids=lambda v: v if isinstance(v, str) else "")
def test_imports_point_downwards(name: str, imports: set[str]) -> None:
    if name in ("__init__", ""):
        return
    mine = layer(name)
    assert mine is not None, f"{name} is in no layer"
    for other in imports:
        if other.startswith("semiseg."):
            theirs = layer(other.removeprefix("semiseg."))
            assert theirs is None or theirs <= mine, f"{name} imports {other}"
    top = name.split(".")[0]
    if top == "methods":
        assert not any(o.startswith("semiseg.data.") and not o.startswith("semiseg.data.batch") for o in imports)
    if top == "data":
        assert not any(o.startswith(("semiseg.methods", "semiseg.models")) for o in imports)
    for library, allowed in ONLY.items():
        if any(o == library or o.startswith(library + ".") for o in imports):
            assert top in allowed, f"{name} imports {library}"


def test_no_module_imports_itself_through_others() -> None:
    """Also not inside a function: a circle that waits until it is called is a circle."""
    found = dict(modules())
    graph = {name: imports_of(name, imports, found.keys()) for name, imports in found.items()}
    done: set[str] = set()

    def walk(name: str, path: tuple[str, ...]) -> None:
        assert name not in path, " -> ".join([*path[path.index(name) :], name])
        if name not in done:
            for other in graph[name]:
                walk(other, (*path, name))
            done.add(name)

    for name in graph:
        walk(name, ())


def imports_of(name: str, imports: set[str], known: Collection[str]) -> set[str]:
    """The modules of semiseg that a module imports; a package stands for its ``__init__``."""
    found = {other.removeprefix("semiseg.") for other in imports if other.startswith("semiseg.")}
    return {other for other in found if other in known and other != name}


def test_no_file_is_longer_than_300_lines() -> None:
    long = {str(p.relative_to(SOURCE)): n for p in SOURCE.rglob("*.py") if (n := len(p.read_text().splitlines())) > 300}
    assert not long


def test_the_top_holds_few_modules() -> None:
    assert len(list(SOURCE.glob("*.py"))) <= 6


@pytest.mark.cli
@pytest.mark.parametrize(
    "module",
    [
        "semiseg.cli",
        "semiseg.config.check",
        "semiseg.dashboard.report",
        "semiseg.training.launch",
        "semiseg.runs.folder",
        "semiseg.commands.train",
        "semiseg.sweep.study",
    ],
)
def test_the_command_line_starts_without_torch(module: str) -> None:
    code = f"import sys, {module}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
