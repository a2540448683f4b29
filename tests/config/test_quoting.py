"""Paths and names reach the configuration as they were typed."""

from __future__ import annotations

import os
import shlex
import subprocess

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

from semiseg.config import compose_config
from semiseg.config.quoting import PATHS, quote_paths, quoted
from semiseg.errors import InputError

ODD = [
    "d/données", "a=b", "run (1)", "it's", "a,b", "a, b", 'say "hi"', "back\\slash", "end\\", "\\'", "[x]", "{x: 1}",
    "a:b", "5", "1e3", "true", "-x", "#1", "!", "100%", "x  y", " lead", "日本",
    "a;b", "$HOME", "`x`", "*", "nan", "(", "]",
    "choice(a,b)", "C:\\Users\\me",
]  # fmt: skip


def read(override: str) -> object:
    parsed = OverridesParser.create().parse_override(override)
    assert not parsed.is_sweep_override()
    return parsed.value()


@pytest.mark.parametrize("text", ODD)
def test_generated_overrides_read_back_as_the_same_text(text: str) -> None:
    assert read(quoted("data.root", text)) == text
    assert read(quoted("hydra.run.dir", text)) == text


@pytest.mark.parametrize("text", ODD)
def test_what_a_person_types_reaches_the_configuration(text: str) -> None:
    (override,) = quote_paths([f"data.root={text}"])
    assert read(override) == text
    assert quote_paths([override]) == [override]
    assert compose_config(["data=folder", f"data.root={text}"]).data.root == text


def test_plain_values_stay_as_typed() -> None:
    """The name of a run folder depends on the text of its overrides."""
    same = ["protocol.labeled=voc/1_8", "data.root=/a/b.c", "study=demo", "-m", "optim.lr=0.1", "data.root=null", "x"]
    assert quote_paths(same) == same
    assert quote_paths(["study=5", "paths.runs='a b'", '+data.root="a b"']) == [
        "study='5'", "paths.runs='a b'", '+data.root="a b"',
    ]  # fmt: skip


@pytest.mark.parametrize("key", sorted(PATHS))
def test_the_home_folder_is_known(key: str, monkeypatch) -> None:
    monkeypatch.setenv("HOME", "/home/it's me")
    assert read(quote_paths([f"{key}=~/d"])[0]) == "/home/it's me/d"
    assert read(quote_paths([f"{key}=a~b"])[0]) == "a~b"


def test_commas_separate_the_values_of_a_sweep() -> None:
    (override,) = quote_paths(["data.root=d/données,it's,'a,b'"], multirun=True)
    values = list(OverridesParser.create().parse_override(override).sweep_iterator())
    assert [str(getattr(v, "text", v)) for v in values] == ["d/données", "it's", "a,b"]
    assert quote_paths(["data.root=choice(a,b)"], multirun=True) == ["data.root=choice(a,b)"]


@pytest.mark.parametrize("text", ["a\nb", "a\x00b", "\x1b[31m", "tab\t"])
def test_control_characters_are_refused_in_one_line(text: str) -> None:
    with pytest.raises(InputError, match="control characters") as e:
        quote_paths([f"study={text}"])
    assert "\n" not in str(e.value) and "\x1b" not in str(e.value)


def test_a_shell_passes_generated_commands_on() -> None:
    for text in ODD:
        line = shlex.quote(quoted("data.root", text))
        said = subprocess.run(["sh", "-c", f"printf %s {line}"], capture_output=True, check=True).stdout
        assert read(os.fsdecode(said)) == text
