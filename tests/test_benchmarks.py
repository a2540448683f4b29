"""That the benchmarks run and report what they promise; never how fast."""

from __future__ import annotations

import importlib
import json
import math
from pathlib import Path

import pytest
import torch

from semiseg.runs.checkpoint import load_checkpoint
from semiseg.training.fit import train

FOLDER = Path(__file__).parents[1] / "benchmarks"
NAMES = sorted(path.stem.removeprefix("bench_") for path in FOLDER.glob("bench_*.py"))


@pytest.fixture(autouse=True)
def _importable(monkeypatch) -> None:
    monkeypatch.syspath_prepend(str(FOLDER))


@pytest.mark.parametrize("name", [pytest.param(n, marks=pytest.mark.cli if n == "import" else ()) for n in NAMES])
def test_a_benchmark_writes_its_rows(name: str, tmp_path: Path, capsys) -> None:
    mode = torch.get_deterministic_debug_mode()
    rows = importlib.import_module("run").main([name, "--quick", "--out", str(tmp_path)])
    assert [path.name for path in tmp_path.iterdir()] == [f"{name}.json"]
    stored = json.loads((tmp_path / f"{name}.json").read_text())
    assert stored["machine"].keys() == {"cpu_count", "device", "threads", "load_average", "python", "torch"}
    assert len(stored["rows"]) == len(rows) > 0
    for row in stored["rows"]:
        assert row.keys() == {"name", "value", "against", "goal", "unit", "detail"}
        assert math.isfinite(row["value"]) and row["value"] > 0
        assert row["against"] and row["unit"] in ("x", "s")
    table = capsys.readouterr().out.splitlines()
    assert len(table) == 2 + len(rows) and len(set(map(len, table))) == 1  # a header, a rule; aligned
    assert torch.get_deterministic_debug_mode() == mode  # nothing is left behind


def test_an_unknown_benchmark_is_named(capsys) -> None:
    with pytest.raises(SystemExit) as error:
        importlib.import_module("run").main(["speed"])
    assert error.value.code == 2 and "unknown benchmark 'speed'" in capsys.readouterr().err


def test_the_bare_loop_does_what_training_does(tmp_path: Path) -> None:
    bare = importlib.import_module("bare")
    cfg = bare.Setting("tiny", 32, 2).config("mean_teacher", "max_steps=3", "diagnostics.panels=0")
    train(cfg, tmp_path)
    trained = load_checkpoint(tmp_path / "checkpoints" / "last.ckpt")["state_dict"]
    _, method, datamodule = bare.pieces(cfg)
    loop = bare.BareLoop(method, datamodule, iter(datamodule.train_dataloader()))
    for _ in range(3):
        loop.step()
    by_hand = method.state_dict()
    assert all(torch.equal(value, by_hand[name]) for name, value in trained.items() if not name.startswith("metrics."))


def test_memory_counts_what_is_alive_at_once() -> None:
    peak_memory = importlib.import_module("bench_methods").peak_memory

    def work() -> None:
        for _ in range(3):
            torch.zeros(1000, 1000)  # 4 MB, freed each time
        kept = torch.zeros(500, 1000)
        torch.zeros(1000, 1000).add_(kept[0, 0])

    assert 6e6 <= peak_memory(work) < 7e6
