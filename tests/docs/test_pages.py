"""Every method has a page, and the tables that are made from the code hold what the code says."""

from __future__ import annotations

import importlib
import re
import sys
from pathlib import Path

import pytest

from semiseg.config import compose_config
from semiseg.config.check import options

ROOT = Path(__file__).parents[2]
PAGES = sorted((ROOT / "docs").rglob("*.md"))


@pytest.fixture(scope="module")
def tables():
    sys.path.insert(0, str(ROOT / "tools"))
    yield importlib.import_module("docs_tables")
    sys.path.remove(str(ROOT / "tools"))


def test_every_method_has_its_options_on_a_page() -> None:
    text = "".join(page.read_text() for page in PAGES if page.parent.name == "methods")
    shown = {
        name.strip()
        for marks in re.findall(r"<!-- table: (?:options|changes) (.*?)-->", text)
        for name in marks.split(",")
    }
    assert shown == set(options("method"))
    measured = re.search(r"<!-- table: measured (.*?)-->", (ROOT / "docs/methods/index.md").read_text())[1]
    assert {name.strip() for name in measured.split(",")} == set(options("method"))


@pytest.mark.parametrize("method", options("method"))
def test_a_table_of_options_has_every_key_with_its_value(method: str, tables) -> None:
    rows = {row[0].strip("`"): row[1].strip("`") for row in tables.option_rows(method)}
    node = compose_config([f"method={method}"]).method
    for key, value in node.items():
        if not str(key).startswith("_") and not hasattr(value, "items"):
            expected = "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
            assert rows[str(key)] == expected
    assert all(row[3] or "." in row[0] for row in tables.option_rows(method)), "an argument without a line in Args"


def test_every_mark_makes_a_table(tables) -> None:
    sys.path.insert(0, str(ROOT / "tools"))
    hooks = importlib.import_module("docs_hooks")
    for page in PAGES:
        for mark in re.findall(r"^.*<!-- table.*$", page.read_text(), re.M):
            if page.parent.name != "extend":
                assert hooks.MARK.fullmatch(mark), f"{page.name}: {mark}"


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) < 130


@pytest.mark.parametrize("page", [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *PAGES], ids=lambda p: p.name)
def test_links_to_files_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\((?!https?://|#)([^)\s]+)\)", page.read_text()):
        assert (page.parent / target.partition("#")[0]).exists(), f"{page.name}: {target}"


@pytest.mark.slow
def test_a_wheel_trains_outside_the_checkout() -> None:
    sys.path.insert(0, str(ROOT / "tools"))
    importlib.import_module("wheel_check").main()
