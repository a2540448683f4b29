"""The notebooks run from top to bottom, and the interface that the Python page shows is the real one."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from support.tiny import OPTIONS

ROOT = Path(__file__).parents[2]
NOTEBOOKS = sorted((ROOT / "examples").glob("*.ipynb"))


def cells(path: Path) -> list[str]:
    notebook = json.loads(path.read_text())
    return ["".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "code"]


def test_notebooks_are_stored_without_output() -> None:
    assert NOTEBOOKS
    for path in NOTEBOOKS:
        for cell in json.loads(path.read_text())["cells"]:
            assert not cell.get("outputs") and not cell.get("execution_count"), path.name


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs(path: Path, tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    scope: dict[str, object] = {}
    for number, code in enumerate(cells(path)):
        exec(compile(code, f"{path.name}, cell {number}", "exec"), scope)
        if code.startswith("STEPS = "):  # numbers, and nothing else, in a cell of their own
            scope |= {"STEPS": 2, "SMALL": OPTIONS}
    assert "mIoU" in capsys.readouterr().out
    assert list(tmp_path.rglob("report.html"))


def test_the_interface_of_the_page_runs(tmp_path: Path, monkeypatch) -> None:
    (code,) = re.findall(r'^```python title="interface"\n(.*?)^```', (ROOT / "docs/python.md").read_text(), re.S | re.M)
    Image.fromarray(np.zeros((20, 30, 3), np.uint8)).save(tmp_path / "photo.jpg")
    monkeypatch.chdir(tmp_path)
    code = code.replace("max_steps=200)", "max_steps=2, options=OPTIONS)").replace('"eval": "sliding"', "")
    exec(compile(code, "docs/python.md", "exec"), scope := {"OPTIONS": OPTIONS})
    assert scope["mask"].shape == (20, 30) and "unimatch" in scope["names"]
