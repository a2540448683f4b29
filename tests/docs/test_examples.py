"""The worked examples of the documentation run as they stand on the page, in a copy of the project."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from support.tiny import tiny

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "docs" / "extend" / f"{name}.md" for name in ("method", "dataset", "protocol")]
CONTRACT = "tests/contract/test_contract.py"


def files(page: Path) -> dict[str, str]:
    """The files that a page shows: the blocks whose title is a path."""
    blocks = re.findall(r'^```\w+ title="([\w/.]+/[\w.]+)"\n(.*?)^```', page.read_text(), re.S | re.M)
    return dict(blocks)


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Path:
    """A copy of sources and configuration with what the pages say, and nothing else, added."""
    folder = tmp_path_factory.mktemp("project")
    for name in ("src", "conf", "tests", "pyproject.toml"):
        source = ROOT / name
        copy = shutil.copytree if source.is_dir() else shutil.copy
        copy(source, folder / name, **({"ignore": shutil.ignore_patterns("__pycache__")} if source.is_dir() else {}))
    for page in PAGES:
        for name, text in files(page).items():
            path = folder / name
            if name == CONTRACT:  # a row of its table
                old = path.read_text()
                text = re.sub(r"^KEYS = \{.*\n", lambda m: m[0] + text, old, count=1, flags=re.M)  # noqa: B023
                assert text != old
            else:
                assert not path.exists(), f"{page.name}: {name} is there already"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
    return folder


@pytest.fixture
def run(project: Path) -> Callable[..., str]:
    """Run a Python module in the copied project."""

    def run(*arguments: str) -> str:
        env = os.environ | {"PYTHONPATH": str(project / "src"), "OMP_NUM_THREADS": "1"}
        env.pop("PYTEST_XDIST_WORKER", None)
        done = subprocess.run(
            [sys.executable, "-m", *arguments], cwd=project, env=env, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"{' '.join(arguments)}\n{done.stdout[-3000:]}{done.stderr[-3000:]}"
        return done.stdout

    return run


def test_a_method_is_one_module_one_option_file_and_one_row() -> None:
    assert list(files(PAGES[0])) == [
        "src/semiseg/methods/confidence_weighted.py",
        "conf/method/confidence_weighted.yaml",
        CONTRACT,
    ]
    assert len(files(PAGES[0])[CONTRACT].splitlines()) == 1


@pytest.mark.cli
def test_the_method_of_the_page_keeps_the_contract(run) -> None:
    told = run("pytest", CONTRACT, "-k", "confidence_weighted", "-p", "no:xdist", "-p", "no:cacheprovider")
    assert "passed" in told or re.search(r"^\.+", told, re.M)
    assert "confidence_weighted" in run("semiseg", "methods")


@pytest.mark.cli
def test_the_data_set_of_the_page_is_checked_and_trained_on(run, tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    for split, n in (("train", 8), ("val", 2)):
        (tmp_path / split).mkdir()
        for i in range(n):
            image = draw.integers(0, 255, (48, 40, 3), dtype=np.uint8)
            Image.fromarray(image).save(tmp_path / split / f"{i}.jpg")
            Image.fromarray((image[..., 0] > 127).astype(np.uint8)).save(tmp_path / split / f"{i}_mask.png")
    chosen = ["data=pairs", f"data.root={tmp_path}"]
    run("semiseg", "data", "check", *chosen)
    small = ["crop_size=[32,32]", "batch.labeled=2", "batch.unlabeled=2", "max_steps=2", "loader.num_workers=0"]
    run("semiseg", "train", *chosen, "method=unimatch", f"paths.runs={tmp_path}/runs", *small)
    assert (tmp_path / "runs/default/pairs/1_4/unimatch/tiny").is_dir()


@pytest.mark.cli
def test_the_protocol_of_the_page_trains(run, tmp_path: Path) -> None:
    shown = ("protocol=shapes/few", "crop_size=", "max_steps=2", "trainer=")  # what the page says stays
    run("semiseg", "train", "method=fixmatch", f"paths.runs={tmp_path}", *tiny(*shown))
    (config,) = tmp_path.rglob("config.yaml")
    assert config.relative_to(tmp_path).as_posix().startswith("default/shapes/few/fixmatch/")
    assert "Sliding" in config.read_text() and "- 80" in config.read_text()


def test_the_notebook_of_the_page_runs(capsys) -> None:
    (code,) = re.findall(r'^```python title="notebook"\n(.*?)^```', (ROOT / "docs/python.md").read_text(), re.S | re.M)
    exec(compile(code, "docs/python.md", "exec"), {})
    assert "loss_fp" in capsys.readouterr().out
