"""Types and ranges in signatures: what passes, and what the message says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from pydantic import Field

from semiseg.arguments import check_value, checked, describe, is_plain, plain_hints, shown
from semiseg.errors import InputError

Share = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=1)]


@checked
class Thing:
    def __init__(
        self, parts: object, *, share: Share = 0.5, mode: Literal["one", "two"] = "one", n: Count | None = None
    ):
        self.share, self.mode, self.n = share, mode, n


@checked
@dataclass(frozen=True, kw_only=True)
class Point:
    x: Annotated[float, Field(gt=0, lt=2)]
    sides: tuple[Count, Count] = (1, 2)


@pytest.mark.parametrize(
    "value,hint",
    [
        (0, Share), (1, Share), (1.0, float), (3, float), ("two", Literal["one", "two"]), (None, Count | None),
        ([1, 2], tuple[int, int]), ((1, 2), tuple[int, int]), ([1, 2.5], Sequence[float]), (3, int | tuple[int, int]),
        ([3, 4], int | tuple[int, int]), ("warn", Literal[True, False, "warn"]), (True, Literal[True, False, "warn"]),
        ({"a": 1}, Mapping[str, int]), ("d/é", str), ([[1, 2], [3, 4]], list[tuple[int, int]]), (Path("x"), Path),
    ],
)  # fmt: skip
def test_good_values_pass(value: Any, hint: Any) -> None:
    check_value("key", value, hint)


@pytest.mark.parametrize(
    "value,hint,message",
    [
        (1.5, Share, "key=1.5: allowed are numbers from 0 to 1"),
        ("abc", Share, "key=abc: allowed are numbers from 0 to 1"),
        (True, Share, "key=true: allowed are numbers from 0 to 1"),
        (None, Share, "key=null: allowed are numbers from 0 to 1"),
        (float("nan"), float, "key=nan: allowed are numbers"),
        (float("inf"), float, "key=inf: allowed are numbers"),
        (1.0, int, "key=1.0: allowed are whole numbers"),
        (True, int, "key=true: allowed are whole numbers"),
        (1, bool, "key=1: allowed are true or false"),
        (0, Count | None, "key=0: allowed are whole numbers from 1 or null"),
        (2, Annotated[float, Field(gt=0, lt=2)], "key=2: allowed are numbers above 0 and below 2"),
        (3, Annotated[float, Field(le=2)], "key=3: allowed are numbers up to 2"),
        (0, Annotated[float, Field(gt=0, le=2)], "key=0: allowed are numbers above 0 and up to 2"),
        (1, Annotated[float, Field(ge=0, lt=1)], "key=1: allowed are numbers from 0 and below 1"),
        ("tow", Literal["one", "two"], "key=tow: did you mean 'two'? allowed: one, two"),
        ([1], tuple[int, int], "key=[1]: allowed are lists of 2 whole numbers"),
        ([0, 1], tuple[Count, Count], "key=[0, 1]: allowed are lists of 2 whole numbers from 1"),
        ([1, "x"], Sequence[float], "key=[1, 'x']: allowed are lists of numbers"),
        ("ab", Sequence[float], "key=ab: allowed are lists of numbers"),
        (5, str, "key=5: allowed are text"),
        ("a\nb", int, "key='a\\nb': allowed are whole numbers"),
    ],
)
def test_bad_values_say_key_value_and_what_is_allowed(value: Any, hint: Any, message: str) -> None:
    with pytest.raises(InputError) as e:
        check_value("key", value, hint)
    assert str(e.value) == message


def test_a_class_is_checked_when_it_is_called() -> None:
    assert Thing(object(), share=1).share == 1
    for wrong, message in (({"share": 2}, "share=2"), ({"mode": "three"}, "mode=three"), ({"n": 0}, "n=0")):
        with pytest.raises(InputError, match=message):
            Thing(object(), **wrong)
    with pytest.raises(InputError, match="x=0"):
        Point(x=0)
    with pytest.raises(InputError, match=r"sides=\[1\]"):
        Point(x=1, sides=[1])
    with pytest.raises(TypeError, match="colour"):
        Thing(object(), colour=1)


def test_arguments_that_hold_objects_are_passed_over() -> None:
    assert list(plain_hints(Thing)) == ["share", "mode", "n"]
    assert is_plain(dict[str, Sequence[int]]) and not is_plain(Thing) and not is_plain(Thing | None)


def test_a_value_is_shown_in_one_short_line() -> None:
    assert shown("x" * 200) == "x" * 77 + "..."
    assert shown("\x1b[31m") == "'\\x1b[31m'" and shown(False) == "false" and shown(None) == "null"
    assert describe(Literal["a"] | int) == "allowed are a or whole numbers"
