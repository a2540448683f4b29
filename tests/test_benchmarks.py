"""That the benchmarks run and report what they promise; never how fast."""

from __future__ import annotations

import importlib
import json
import math
from pathlib import Path

import pytest
import torch

from semiseg.config import compose_config, conf_dir
from semiseg.config.settings import read_settings
from semiseg.runs.checkpoint import load_checkpoint
from semiseg.training.fit import train

FOLDER = Path(__file__).parents[1] / "benchmarks"
NAMES = sorted(path.stem.removeprefix("bench_") for path in FOLDER.glob("bench_*.py"))


@pytest.fixture(autouse=True)
def _importable(monkeypatch) -> None:
    monkeypatch.syspath_prepend(str(FOLDER))


STARTS = ("import", "scale")
"""Benchmarks that start processes."""


@pytest.mark.parametrize("name", [pytest.param(n, marks=pytest.mark.cli if n in STARTS else ()) for n in NAMES])
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


def test_a_row_says_whether_its_goal_is_met() -> None:
    Row = importlib.import_module("table").Row
    rows = [Row("a", 1.1, "b", goal=1.1), Row("a", 1.2, "b", goal=1.1), Row("a", 9.0, "b")]
    assert [row.verdict for row in rows] == ["met", "missed", ""]


def test_the_floor_has_every_method_and_the_page_says_why() -> None:
    passes = importlib.import_module("passes").PASSES
    page = (FOLDER.parent / "docs" / "speed.md").read_text()
    table = page[page.index("## Minimum cost of a step") : page.index("## Compilation")]
    assert passes.keys() == {path.stem for path in (conf_dir() / "method").glob("*.yaml")}
    assert all(f"`{name}`" in table for name in passes)


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


def test_the_script_for_a_gpu_runs_on_a_cpu(tmp_path: Path) -> None:
    gpu = importlib.import_module("gpu")
    found = json.loads(gpu.main(["steps", "--quick", "--out", str(tmp_path)]).read_text())
    assert {(row["method"], row["variant"]) for row in found["rows"]} == {
        (method, variant)
        for method in ("supervised", "mean_teacher")
        for variant in ("float32", "bf16", "bf16, channels last")
    }
    assert all(row["images_per_second"] > 0 and row["peak_memory"] > 0 for row in found["rows"])
    assert not found["left_out"] and all(rate > 0 for rate in found["matrix_flops"].values())
    found = json.loads(gpu.main(["runs", "--quick", "--out", str(tmp_path)]).read_text())
    assert found["ddp"] is True and found["resumed"] == {"32-true": 0.0, "bf16-mixed": 0.0}
    assert len(list(tmp_path.iterdir())) == 2


def test_every_method_and_recipe_is_among_the_cases_for_a_gpu() -> None:
    gpu = importlib.import_module("gpu")
    assert {path.stem for path in (conf_dir() / "method").glob("*.yaml")} == {case.method for case in gpu.CASES}
    assert {"u2pl/voc", "unimatch_v2/cityscapes", "allspark/voc"} <= {case.recipe for case in gpu.CASES}
    settings = next(case for case in gpu.CASES if case.recipe == "mkd/voc").settings()
    assert settings.crop_size == (512, 512) and settings.trainer.precision == "32-true"


def test_what_comes_after_the_deadline_is_named(monkeypatch) -> None:
    gpu = importlib.import_module("gpu")
    found = gpu.steps(True, deadline=0.0)
    assert not found["rows"] and {row["why"] for row in found["left_out"]} == {"time"}


def test_the_table_of_what_fits_a_card_has_a_row_for_every_recipe_named(capsys) -> None:
    recipe_memory = importlib.import_module("recipe_memory")
    assert "unimatch/voc" in recipe_memory.recipes() and "u2pl/voc" in recipe_memory.recipes()
    assert "unimatch_v2/voc" in recipe_memory.recipes() and "allspark/voc" in recipe_memory.recipes()
    Memory = importlib.import_module("semiseg.training.step_memory").StepMemory
    gib = 10**9
    estimate = recipe_memory.Estimate(Memory(gib, gib, gib, 17 * gib), Memory(gib, gib, gib, 10 * gib), (4, 4))
    fits = {card: estimate.fitting(card) for card in (4, 8, 16, 24)}
    assert fits == {4: "no", 8: "both, batch / 2", 16: "bf16 + checkpointing", 24: "as it is"}


def test_the_memory_of_a_transformer_is_counted_without_computing_it() -> None:
    recipe_memory = importlib.import_module("recipe_memory")
    small = ["model=segformer_b0", "model.weights=none", "crop_size=64", "batch.labeled=2", "batch.unlabeled=2"]
    settings = read_settings(compose_config(["experiment=allspark/voc", *small, "trainer.accelerator=cpu"]))
    counted = recipe_memory.counted(settings)
    assert 0 < counted.activations < 100e6 and counted.gradients == counted.optimizer
