"""The numbers of the study on real photos, on its page and in the README, are those of the frozen runs."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import pytest

from semiseg.config.check import options

ROOT = Path(__file__).parents[2]
STUDY = ROOT / "experiments" / "real"


@pytest.fixture(scope="module")
def table():
    spec = importlib.util.spec_from_file_location("real_table", STUDY / "table.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_tables_and_curves_are_made_from_the_frozen_runs(table) -> None:
    page = table.PAGE.read_text(encoding="utf-8")
    assert "<!-- table: " in page and table.filled(page) == page, "run: python experiments/real/table.py write"
    assert table.curves(table.read_frozen()) == (STUDY / "curves.svg").read_text(encoding="utf-8")


def test_the_runs_of_a_table_have_one_budget_and_one_list_a_draw(table) -> None:
    rows = table.read_frozen()
    for name, methods in table.blocks(rows).items():
        assert len({row.steps for draws in methods.values() for row in draws.values()}) == 1, name
    animals = {(row.draw, row.labeled, row.list_sha256) for row in rows if row.study.endswith("_animals")}
    assert len(animals) == len({(draw, labeled) for draw, labeled, _ in animals}), "one list per draw"


def test_the_readme_has_the_gain_of_every_method(table) -> None:
    draws = table.blocks(table.read_frozen())["animals few"]  # 402 steps
    base = draws["supervised"]
    lines = [
        re.split(r" *\| *", line.strip("| "))
        for line in (ROOT / "README.md").read_text().splitlines()
        if "](docs/methods/" in line
    ]
    shown = {}
    for line in lines:
        names = re.findall(r"`(\w+)`", line[0])
        shown |= dict(zip(names, line[1].split(", "), strict=True))
    gain = {
        name: f"{sum(100 * (row.last - base[draw].last) for draw, row in rows.items()) / len(rows):+.1f}"
        for name, rows in draws.items()
        if name != "supervised" and name in options("method")
    }
    mean = sum(100 * row.last for row in base.values()) / len(base)
    assert shown == {"supervised": f"{mean:.1f} mIoU", **gain}


def test_methods_are_compared_draw_by_draw(table) -> None:
    def row(method: str, draw: int, last: float):
        known = {"study": "real_animals", "labeled": 20, "method": method, "variant": "", "draw": draw}
        known["steps"] = table.STEPS
        scores = dict.fromkeys(("last", "best", "student"), last)
        return table.Row(**dict.fromkeys(table.Row._fields) | known | scores)

    rows = [
        row("supervised", 0, 0.30),
        row("supervised", 1, 0.20),
        row("a", 0, 0.32),
        row("a", 1, 0.23),
        row("b", 1, 0.1),
    ]
    methods = table.blocks(rows)["animals few"]
    text = table.table(methods, methods["supervised"])
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines()[2:]]
    assert [line[0] for line in cells] == ["`a`", "`supervised`", "`b`"]
    assert cells[0][1:4] == ["2", "27.50 ± 6.36", "+2.50"] and cells[2][1:4] == ["1", "10.00", "-10.00"]
    assert cells[0][4] == "-3.9 to +8.9" and cells[2][4] == "", "t interval of two pairs: 2.5 ± 12.706 x 0.5"


def test_scores_on_the_test_split_are_compared_draw_by_draw(table) -> None:
    def row(method: str, draw: int, test: float | None):
        known = {"study": "real_camvid", "method": method, "draw": draw, "last": 0.5, "test": test}
        return table.Row(**dict.fromkeys(table.Row._fields) | known)

    methods = {
        "supervised": {0: row("supervised", 0, 0.40), 1: row("supervised", 1, None)},
        "a": {0: row("a", 0, 0.43), 1: row("a", 1, 0.9)},
        "b": {0: row("b", 0, None)},
    }
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.test_table(methods).splitlines()]
    assert [line[:4] for line in lines[2:]] == [
        ["`a`", "2", "66.50 ± 33.23", "+3.00"],
        ["`supervised`", "1", "40.00", ""],
    ]
