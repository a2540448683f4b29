"""Arguments of our constructors, read from their source, so that mistakes are reported before torch is imported.

Annotations are evaluated with the names they use (``typing``, ``pydantic``, our own aliases); classes of heavy
libraries are represented by ``Opaque``. The tests compare the result with Python's for every shipped constructor.
"""

from __future__ import annotations

import ast
import builtins
import functools
import importlib
import types
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import semiseg

ROOTS = {"semiseg": Path(semiseg.__file__).parent, "hydra_plugins": Path(semiseg.__file__).parents[1] / "hydra_plugins"}
LIGHT = frozenset(
    {"typing", "collections.abc", "pathlib", "pydantic", "annotated_types", "semiseg.arguments", "types", "datetime"}
)
"""Modules that are imported for the names in annotations; names of other libraries become `Opaque`."""

UNKNOWN: Any = object()
"""The default of an argument that has none, or one that takes more than names and numbers to say."""

Definition = ast.ClassDef | ast.FunctionDef | ast.Assign | ast.AnnAssign


@dataclass(frozen=True)
class Parameter:
    """One argument: its type, whether it is required, and its default, if that is a plain value."""

    hint: Any
    required: bool
    default: Any = UNKNOWN

    @property
    def has_default(self) -> bool:
        """Whether the value of an argument that is not given is known."""
        return self.default is not UNKNOWN

    @property
    def allows_none(self) -> bool:
        """Whether null is a value of the type."""
        return self.hint is Any or type(None) in (self.hint, *get_args(self.hint))


class _OpaqueType(type):
    def __getattr__(cls, name: str) -> type:
        if name.startswith("__"):
            raise AttributeError(name)
        return cls


class Opaque(metaclass=_OpaqueType):
    """Stands for a class that is not imported."""

    def __class_getitem__(cls, item: Any) -> type:
        return cls


@functools.cache
def parameters(target: str) -> Mapping[str, Parameter]:
    """The arguments of one of our classes or functions, by its dotted name; it is not imported.

    Raises:
        LookupError: the definition does not exist.
    """
    owner, _, name = target.rpartition(".")
    module, definition = _module(owner).find(name)
    return dict(_of(module, definition))


def _of(module: _Module, definition: Definition) -> Iterator[tuple[str, Parameter]]:
    if isinstance(definition, ast.FunctionDef):
        yield from _of_function(module, definition)
    elif isinstance(definition, ast.ClassDef):
        methods = (n for n in definition.body if isinstance(n, ast.FunctionDef) and n.name == "__init__")
        if init := next(methods, None):
            yield from list(_of_function(module, init))[1:]  # without self
            return
        for base in definition.bases:
            if isinstance(base, ast.Name) and (found := module.look(base.id)):
                yield from _of(*found)
        if any("dataclass" in ast.unparse(d) for d in definition.decorator_list):
            yield from _of_fields(module, definition)
    else:
        raise LookupError(f"{ast.unparse(definition)} is not a constructor")


def _of_function(module: _Module, function: ast.FunctionDef) -> Iterator[tuple[str, Parameter]]:
    args = function.args
    positional = [*args.posonlyargs, *args.args]
    defaults = [None] * (len(positional) - len(args.defaults)) + list(args.defaults)
    for argument, default in [*zip(positional, defaults), *zip(args.kwonlyargs, args.kw_defaults)]:
        yield argument.arg, Parameter(module.evaluate(argument.annotation), default is None, module.value(default))


def _of_fields(module: _Module, cls: ast.ClassDef) -> Iterator[tuple[str, Parameter]]:
    for node in cls.body:
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            if "ClassVar" in ast.unparse(node.annotation):
                continue
            keywords, default = {}, node.value
            if isinstance(node.value, ast.Call) and ast.unparse(node.value.func).endswith("field"):
                keywords = {k.arg: ast.unparse(k.value) for k in node.value.keywords}
                if keywords.get("init") == "False":
                    continue
                required = not {"default", "default_factory"} & keywords.keys()
                default = next((k.value for k in node.value.keywords if k.arg == "default"), None)
            else:
                required = node.value is None
            yield node.target.id, Parameter(module.evaluate(node.annotation), required, module.value(default))


@functools.cache
def _module(name: str) -> _Module:
    package, *rest = name.split(".")
    path = ROOTS.get(package, Path()).joinpath(*rest)
    file = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    if package not in ROOTS or not file.is_file():
        raise LookupError(f"no module {name}")
    return _Module(name, ast.parse(file.read_text(encoding="utf-8")))


class _Module:
    """The top level of a source file: what it defines and what it imports."""

    def __init__(self, name: str, tree: ast.Module) -> None:
        self.name = name
        self.definitions: dict[str, Definition] = {}
        self.imports: dict[str, tuple[str, str]] = {}
        for node in tree.body:
            if isinstance(node, (ast.ClassDef, ast.FunctionDef)):
                self.definitions[node.name] = node
            elif isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
                self.definitions[node.targets[0].id] = node
            elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
                self.definitions[node.target.id] = node
            elif isinstance(node, ast.ImportFrom) and node.module:
                self.imports |= {a.asname or a.name: (node.module, a.name) for a in node.names}
            elif isinstance(node, ast.Import):
                self.imports |= {a.asname or a.name: (a.name, "") for a in node.names}

    def find(self, name: str) -> tuple[_Module, Definition]:
        """Where a name is defined, in this module or in the one it is imported from."""
        if found := self.look(name):
            return found
        raise LookupError(f"{self.name} has no {name}")

    def look(self, name: str) -> tuple[_Module, Definition] | None:
        """Like `find`; None for a name of another library."""
        if name in self.definitions:
            return self, self.definitions[name]
        module, attribute = self.imports.get(name, ("", ""))
        return _module(module).look(attribute) if module.split(".")[0] in ROOTS and attribute else None

    def evaluate(self, annotation: ast.expr | None) -> Any:
        """The type that an annotation denotes."""
        if annotation is None:
            return Any
        if isinstance(annotation, ast.Constant) and isinstance(annotation.value, str):
            annotation = ast.parse(annotation.value, mode="eval").body
        code = compile(ast.Expression(annotation), self.name, "eval")
        value = eval(code, {"__builtins__": {}}, _Names(self))
        return type(None) if value is None else value

    def value(self, default: ast.expr | None) -> Any:
        """The plain value of a default, lists for tuples as in YAML; `UNKNOWN` where it is none."""
        if default is None:
            return UNKNOWN
        try:
            found = eval(compile(ast.Expression(default), self.name, "eval"), {"__builtins__": {}}, _Names(self))
        except Exception:  # a call, or a name of another library
            return UNKNOWN
        return _plain(found)


def _plain(value: Any) -> Any:
    if isinstance(value, (list, tuple)):
        items = [_plain(item) for item in value]
        return UNKNOWN if any(item is UNKNOWN for item in items) else items
    return value if value is None or isinstance(value, (bool, int, float, str)) else UNKNOWN


class _Names(dict[str, Any]):
    """The names used in annotations of a module, resolved on demand."""

    def __init__(self, module: _Module) -> None:
        self.module = module

    def __missing__(self, name: str) -> Any:
        module, attribute = self.module.imports.get(name, ("", ""))
        if module in LIGHT:
            imported: types.ModuleType = importlib.import_module(module)
            return getattr(imported, attribute) if attribute else imported
        if found := self.module.look(name):
            owner, definition = found
            if isinstance(definition, (ast.Assign, ast.AnnAssign)) and definition.value is not None:
                return owner.evaluate(definition.value)
            return Opaque
        return Opaque if module else getattr(builtins, name)
