"""The one parser of a command's own arguments: types, help and nearest names from one declaration."""

from __future__ import annotations

import importlib
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import pytest
from pydantic import Field

from semiseg.cli import COMMANDS
from semiseg.commands import train
from semiseg.commands.args import help_text, no_more, option, parse, with_source
from semiseg.commands.data import ACTIONS
from semiseg.errors import InputError


@dataclass(frozen=True, kw_only=True)
class Arguments:
    """Does something."""

    usage: ClassVar = "semiseg something"

    count: Annotated[int, Field(ge=1)] | None = option("how many", value="N")
    share: Annotated[float, Field(gt=0, le=1)] = option("which part", 0.5)
    place: Path | None = option("where", value="DIR", key="data.root")
    which: Literal["best", "last"] = option("which one", "best")
    again: bool = option("once more", False)


@pytest.mark.parametrize(
    "arg,value",
    [
        ("count=3", ("count", 3)),
        ("count=null", ("count", None)),
        ("share=1", ("share", 1.0)),
        ("share=0.25", ("share", 0.25)),
        ("data.root=a=b", ("place", Path("a=b"))),
        ("data.root=~/x", ("place", Path("~/x").expanduser())),
        ("which=last", ("which", "last")),
        ("again=True", ("again", True)),
    ],
)
def test_values_have_the_type_of_their_annotation(arg: str, value: tuple[str, Any]) -> None:
    parsed = parse([arg], Arguments)
    assert parsed is not None and not parsed[1]
    assert getattr(parsed[0], value[0]) == value[1] and type(getattr(parsed[0], value[0])) is type(value[1])


@pytest.mark.parametrize(
    "arg,told",
    [
        ("count=0", "count=0: allowed are whole numbers from 1"),
        ("count=1.5", "count=1.5"),
        ("share=x", "share=x: allowed are numbers above 0 and up to 1"),
        ("share=nan", "share=nan"),
        ("again=yes", "again=yes: allowed are true or false"),
        ("which=lats", "which=lats: did you mean 'last'?"),
        ("cuont=3", "unknown argument 'cuont=3': did you mean 'count'?"),
        ("root=3", "unknown argument 'root=3': did you mean 'data.root'?"),
    ],
)
def test_a_wrong_argument_is_one_line(arg: str, told: str) -> None:
    with pytest.raises(InputError) as error:
        parse([arg], Arguments)
    assert told in str(error.value) and "\n" not in str(error.value)


def test_what_is_not_the_commands_own_goes_on() -> None:
    known = lambda: ["eval", "which_one"]  # noqa: E731
    parsed = parse(["eval=sliding", "eval.size=3", "which_one=3", "word"], Arguments, known=known)
    assert parsed is not None and parsed[1] == ["eval=sliding", "eval.size=3", "which_one=3", "word"]
    with pytest.raises(InputError, match="unknown argument 'whihc=last': did you mean 'which'"):
        parse(["whihc=last"], Arguments, known=known)
    with pytest.raises(InputError, match="unknown argument 'word'"):
        no_more(["word"], Arguments)


def test_every_command_explains_each_of_its_arguments(capsys) -> None:
    modules = [module for module, *_ in (*COMMANDS.values(), *ACTIONS.values())]
    declared = [m.Arguments for m in map(importlib.import_module, modules) if hasattr(m, "Arguments")]
    assert len(declared) >= 8
    for arguments in declared:
        text = help_text(arguments)
        assert text.startswith(f"{arguments.usage}\n\n{(arguments.__doc__ or '').splitlines()[0]}")
        for field in fields(arguments):
            assert f"  {field.metadata['key'] or field.name}=" in text and field.metadata["help"] in text


@pytest.mark.parametrize("argv", [["seed=0,1", "-m", "method=cps"], ["seed=0,1", "method=cps", "--multirun"]])
def test_the_flag_of_a_sweep_may_stand_anywhere(argv: list[str]) -> None:
    args = train._hydra_arguments(train.expand(argv))
    assert args.multirun and args.overrides == ["seed=0,1", "method=cps"]


def test_a_folder_is_a_source_even_with_an_equals_sign(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "size=1").mkdir()
    words = ["size=1", "photos", "seed=1", "--help", "output=x"]
    assert with_source(words) == ["source=size=1", "source=photos", "seed=1", "--help", "output=x"]
