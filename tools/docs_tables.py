"""Documentation tables generated from the code: options, published numbers, own numbers."""

from __future__ import annotations

import csv
import functools
import importlib
import inspect
import re
import textwrap
import types
import typing
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

TOP = Path(__file__).resolve().parents[1]
METHODS = TOP / "conf" / "method"
(PUBLISHED,) = (TOP / "src" / "semiseg" / "dashboard").rglob("published_results.csv")
STUDY = TOP / "experiments" / "real" / "README.md"
SPEED = TOP / "docs" / "speed.md"


def markdown_table(head: list[str], rows: list[list[str]]) -> str:
    """A Markdown table; bars inside a cell are escaped."""
    lines = [head, ["---"] * len(head), *([cell.replace("|", "\\|") for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


# -- options of a method ------------------------------------------------------------------------------------------


def options(method: str) -> str:
    """Every option of a method: default and comment from its YAML file, type and meaning from the constructor."""
    rows = option_rows(method)
    if not rows:
        return f"`method={method}` has no options."
    head = ["`method.`", "default", "allowed", "meaning, and *comment on the default*"]
    return markdown_table(head, rows)


def changes(method: str, variant: str) -> str:
    """The options whose defaults differ between a method and a variant of it."""
    before = {row[0]: row[1] for row in option_rows(method)}
    rows = [[r[0], before.get(r[0], "none"), r[1], r[3]] for r in option_rows(variant) if before.get(r[0]) != r[1]]
    return markdown_table(["`method.`", f"`{method}`", f"`{variant}`", "meaning"], rows)


@functools.cache
def option_rows(method: str) -> list[list[str]]:
    """Rows of the table of options; those of nested objects come last."""
    from omegaconf import OmegaConf

    from semiseg.config import compose_config

    node: Any = OmegaConf.to_container(compose_config([f"method={method}"]).method, resolve=False)
    comments = yaml_comments(method)
    rows = []
    for path, value, allowed, meaning in _options(node):
        default = "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
        comment = comments.get(path, "")
        if set(re.split(r"[, ]+", comment)) <= set(re.findall(r"[\w.]+", allowed)):  # only repeats the choices
            comment = ""
        text = " ".join(filter(None, [meaning, comment and f"*{comment}*"]))
        rows.append([f"`{path}`", f"`{default}`", allowed, text])
    return sorted(rows, key=lambda row: "." in row[0])


def _options(node: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any, str, str]]:
    """(dotted key, default, allowed values, meaning) of a node with a ``_target_`` and of those inside."""
    target = _load(node["_target_"])
    meanings, kinds = argument_docs(target), argument_kinds(target)
    for name, parameter in inspect.signature(target).parameters.items():
        if name == "parts" or parameter.kind is inspect.Parameter.VAR_KEYWORD:
            continue
        value = node.get(name, None if parameter.default is inspect.Parameter.empty else parameter.default)
        path = f"{above}{name}"
        if isinstance(value, Mapping) and "_target_" in value and not (value.get("_partial_") and name == "base"):
            yield from _options(value, f"{path}.")
            continue
        if isinstance(value, Mapping):
            value = value["_target_"].rpartition(".")[2] if "_target_" in value else dict(value)
        if name in node or (name in meanings and parameter.default is not inspect.Parameter.empty):
            yield path, value, kinds.get(name, ""), meanings.get(name, "")


def _load(target: str) -> Any:
    module, _, name = target.rpartition(".")
    return getattr(importlib.import_module(module), name)


def argument_docs(target: Any) -> dict[str, str]:
    """The ``Args`` section of a Google docstring, including base classes, as one line of Markdown per argument."""
    found: dict[str, str] = {}
    for cls in reversed(getattr(target, "__mro__", (target,))):
        text = inspect.cleandoc(cls.__doc__ or "")
        section = re.search(r"^Args:\n((?:[ \t]+.*\n?|\n)+)", text, re.M)
        if section is None or not cls.__module__.startswith("semiseg"):
            continue
        for names, meaning in re.findall(r"^([\w, ]+): ((?:.*\n?)(?:[ ]+.*\n?)*)", textwrap.dedent(section[1]), re.M):
            line = plain(" ".join(meaning.split()))
            for name in map(str.strip, names.split(",")):
                own = re.sub(r"^see `\w+`[;.]? ?", "", line)
                if own == line or name not in found:
                    found[name] = line
                elif name in own:  # in addition to the base class; the line may cover several arguments
                    found[name] += f" {own}"
    return found


def plain(text: str) -> str:
    """Convert reStructuredText cross-references and literals to Markdown code."""
    return re.sub(r":\w+:`~?([^`]+)`", r"`\1`", text).replace("``", "`")


def argument_kinds(target: Any) -> dict[str, str]:
    """The allowed values of each argument, in words."""
    init = target.__init__ if inspect.isclass(target) else target
    try:
        hints = typing.get_type_hints(inspect.unwrap(init), include_extras=True)
    except NameError:  # a name imported only for type checkers
        return {}
    return {name: allowed_values(hint) for name, hint in hints.items()}


def allowed_values(hint: Any) -> str:
    """Description of a type, with the choices of a ``Literal`` or the range of a number; empty for an object."""
    from semiseg.arguments import describe, is_plain

    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Literal:
        return ", ".join(f"`{a}`" for a in args)
    if origin in (typing.Union, types.UnionType):
        return " or ".join(filter(None, ("`null`" if a is type(None) else allowed_values(a) for a in args)))
    return describe(hint).removeprefix("allowed are ") if is_plain(hint) else ""


def yaml_comments(method: str) -> dict[str, str]:
    """Comments after the values of an option file and of the files in this folder that it is based on."""
    text = (METHODS / f"{method}.yaml").read_text(encoding="utf-8")
    found: dict[str, str] = {}
    for base in yaml.safe_load(text).get("defaults") or []:
        if isinstance(base, str) and base != "_self_":
            found |= yaml_comments(base)
    path: list[tuple[int, str]] = []
    for line in text.splitlines():
        match = re.match(r"( *)(\w+):([^#]*)(?:#\s*(.*))?$", line)
        if match:
            indent = len(match[1])
            path = [*(p for p in path if p[0] < indent), (indent, match[2])]
            key = ".".join(p[1] for p in path)
            found.pop(key, None)  # a new value: drop the comment on the old one
            if match[4]:
                found[key] = match[4]
    return found


# -- numbers ------------------------------------------------------------------------------------------------------


def published(name: str) -> str:
    """Published mIoU of a method by protocol and encoder; the authors' own numbers take precedence over quoted ones."""
    with PUBLISHED.open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["method"] == name and row["labeled_count"].isdigit()]
    groups: dict[tuple[str, ...], dict[int, str]] = {}
    sources: dict[tuple[str, ...], dict[str, None]] = {}
    for row in sorted(rows, key=lambda row: "quoted" in row["notes"]):
        key = tuple(row[k] for k in ("protocol", "encoder", "crop"))
        if int(row["labeled_count"]) not in groups.setdefault(key, {}):
            groups[key][int(row["labeled_count"])] = row["miou"]
            source = re.split(r"[@ ]", row["source"])[0]
            sources.setdefault(key, {})["/".join(source.split("/")[:3]) if "github" in source else source] = None
    if not groups:
        return f"The package's table contains no published numbers of {name}."
    lines = [
        [
            *(unbroken(k) for k in key),
            ", ".join(f"{n}:\u00a0{m}" for n, m in sorted(cells.items())),
            "; ".join(sources[key]),
        ]
        for key, cells in sorted(groups.items())
    ]
    return markdown_table(["lists", "encoder", "crop", "labeled images: mIoU in %", "source"], lines)


def unbroken(text: str) -> str:
    """Text with non-breaking hyphens and spaces."""
    return text.replace("-", "\u2011").replace(" ", "\u00a0")


def measured(*methods: str) -> str:
    """Our measurements: rows of the study on real photos and of the table of costs."""
    rows = []
    for method in methods:
        study, cost = _row(STUDY, method), _row(SPEED, method)
        rows.append([f"`{method}`", *study[1:5], *cost[1:3]])
    head = ["method", "draws", "mIoU in %", "over supervised", "95 % interval", "step time", "peak memory"]
    return (
        f"{markdown_table(head, rows)}\n\n"
        "mIoU: about 20 labeled photos, a pretrained EfficientNet-Lite0, 402 steps, nothing tuned: "
        "[the study on real photos](../experiments/real/README.md). "
        "Step time and peak memory are relative to `supervised`: [Speed](../speed.md)."
    )


def _row(page: Path, method: str) -> list[str]:
    """Cells of the first table row of a page that starts with the method; placeholders if there is none."""
    for line in page.read_text(encoding="utf-8").splitlines():
        cells = re.split(r"\s*\|\s*", line.strip("| \n"))
        if line.startswith("|") and cells[0].strip("`").split(" ")[0].strip("`") == method:
            return [*cells, "", ""]
    return ["", "not run", "", "", "", ""]


def method_list() -> str:
    """One row per option of ``method=``: name, venue, what it does, from the first line of its file."""
    rows = []
    for path in sorted(METHODS.glob("*.yaml")):
        title, venue, what, paper = path.read_text(encoding="utf-8").splitlines()[0].lstrip("# ").split(" | ")
        links = re.sub(r"(?:arXiv )?(\d{4}\.\d{5})", r"[\1](https://arxiv.org/abs/\1)", paper)
        rows.append([f"`{path.stem}`", title, venue, what, links])
    return markdown_table(["`method=`", "name", "venue", "what it does", "paper"], rows)


def partitions(data: str) -> str:
    """The published partitions of a data set: counts, list family, source of the list."""
    from semiseg.data.partitions.official import official_partitions

    rows = []
    for part in official_partitions(data):
        source = part.sources[0].repository if part.sources else "this package"
        rows.append([f"`{part.name}`", str(part.n_labeled), str(part.n_unlabeled), part.family, source])
    return markdown_table(["`protocol=`", "labeled", "unlabeled", "list family", "source"], rows)
