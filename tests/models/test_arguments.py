"""Every argument of every network: one value below and one above its range, and values of a wrong type."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

import pytest
import yaml
from annotated_types import Ge, Gt, Le, Lt, MinLen

from semiseg import models
from semiseg.arguments import plain_hints
from semiseg.errors import InputError

CONF = Path(__file__).parents[2] / "conf" / "model"


def _options() -> dict[str, dict[str, Any]]:
    """One option file of every network: factory name -> its arguments."""
    found: dict[str, dict[str, Any]] = {}
    for path in sorted(CONF.glob("*.yaml")):
        arguments = yaml.safe_load(path.read_text())
        found.setdefault(arguments.pop("_target_").rpartition(".")[2], arguments | {"num_classes": 5})
    return found


def bad_values(hint: Any, good: Any) -> Iterator[Any]:
    """Values that a type does not allow; ``good`` is one that it does."""
    origin, args = get_origin(hint), get_args(hint)
    if origin is Annotated:
        for bound in (b for item in args[1:] for b in getattr(item, "metadata", [item])):
            match bound:
                case Ge(low):
                    yield low - 1
                case Le(high):
                    yield high + 1
                case Gt(low) | Lt(low):
                    yield low
                case MinLen(_):
                    yield []
        yield from bad_values(args[0], good)
    elif origin is Literal:
        yield from ("no_such_choice", -1, None)
    elif origin is tuple:
        yield from ([*good, good[0]], good[:-1])
        yield from ([*good[:-1], bad] for bad in bad_values(args[-1], good[-1]))
    elif isinstance(good, (list, tuple)):
        yield from ([*good[:-1], bad] for bad in bad_values(args[0], good[-1]))
        yield from (None, good[0])
    else:
        yield None
        if hint in (int, float):
            yield from ("abc", math.nan, math.inf, [1], True)
        if hint is int:
            yield 1.5
        if hint in (bool, str):
            yield from (3, [1])


CASES = [
    (name, arguments, key, bad)
    for name, arguments in _options().items()
    for key, hint in plain_hints(getattr(models, name)).items()
    for bad in bad_values(hint, arguments.get(key))
]


def test_every_network_of_an_option_file_is_tried():
    assert {name for name, *_ in CASES} == {"deeplabv3", "deeplabv3plus", "segformer", "dpt", "tiny"}
    assert len(CASES) > 200


@pytest.mark.parametrize("name", sorted({name for name, *_ in CASES}))
def test_every_number_has_both_ends(name: str):
    for key, hint in plain_hints(getattr(models, name)).items():
        text = str(hint)
        if hint in (int, float) or (("int" in text or "float" in text) and "Literal" not in text):
            assert "Ge(" in text or "Gt(" in text, key
            assert "Le(" in text or "Lt(" in text, key


def test_bad_values_are_refused_before_anything_is_built(monkeypatch: pytest.MonkeyPatch):
    def build(*args: Any, **kwargs: Any) -> None:
        raise AssertionError("an encoder was built")

    monkeypatch.setattr("semiseg.models.factory.build_encoder", build)
    monkeypatch.setattr("semiseg.models.factory.TinyEncoder", build)
    for name, arguments, key, bad in CASES:
        factory: Callable[..., Any] = getattr(models, name)
        with pytest.raises(InputError) as caught:
            factory(**(arguments | {key: bad}))
        assert str(caught.value).startswith(f"{key}=") and "\n" not in str(caught.value), (name, key, bad)


@pytest.mark.parametrize("name", sorted({name for name, *_ in CASES}))
def test_the_arguments_of_the_option_files_are_good(name: str, monkeypatch: pytest.MonkeyPatch):
    class Built(Exception):
        pass

    def build(*args: Any, **kwargs: Any) -> None:
        raise Built

    monkeypatch.setattr("semiseg.models.factory.build_encoder", build)
    monkeypatch.setattr("semiseg.models.factory.TinyEncoder", build)
    with pytest.raises(Built):
        getattr(models, name)(**_options()[name])
