"""Two processes through torchrun against one, for every method: one start of processes for all of them."""

from __future__ import annotations

import csv
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor

from semiseg.runs.checkpoint import load_checkpoint
from support.ddp_runs import METHODS, NO_PADDING, PER_IMAGE, STATE_OF_ONE, run, without_batch_statistics

pytestmark = [pytest.mark.ddp, pytest.mark.cli]


@pytest.fixture(scope="module")
def pairs(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("pairs")
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    command += ["-m", "support.ddp_runs", str(folder)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        command, cwd=Path(__file__).parents[1], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return folder


def ranks(folder: Path, name: str) -> list[dict]:
    return [torch.load(folder / f"{name}_{rank}.pt", weights_only=True) for rank in range(2)]


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "metrics.csv").open() as f:
        return list(csv.DictReader(f))


def assert_same_run(one: Path, state: dict[str, Tensor], pairs: Path, name: str) -> None:
    two = ranks(pairs, name)[0]["state"]
    counted = ("metrics.", "statistics.")  # MKD's statistics of each process: see STATE_OF_ONE
    learned = [k for k in state if not k.startswith(counted) and state[k].is_floating_point()]
    assert len(learned) > 10
    for key in learned:
        torch.testing.assert_close(two[key], state[key], rtol=1e-4, atol=1e-5, msg=key)
    a, b = rows(one), rows(pairs / name)
    assert len(a) == len(b) == 4
    terms = [k for k in a[0] if k.startswith("train/") and "share" not in k]
    assert "train/loss" in terms
    for x, y in zip(a, b):
        for term in (t for t in terms if x[t] or y[t]):  # a method in stages has other terms in each
            assert float(x[term]) == pytest.approx(float(y[term]), abs=1e-5), (x["step"], term)
    assert float(a[0]["train/loss"]) != float(a[-1]["train/loss"])


@pytest.mark.parametrize("method", METHODS)
def test_two_processes_are_one_that_takes_the_same_parts_in_turn(method: str, pairs: Path, tmp_path: Path) -> None:
    """Mixing partners, percentiles and attention stay within a part, as in the references' own several processes."""
    with without_batch_statistics():
        _, state = run(tmp_path, f"method={method}", "trainer.accumulate=2", *STATE_OF_ONE.get(method, []))
    assert_same_run(tmp_path, state, pairs, method)


@pytest.mark.parametrize("method", PER_IMAGE)
def test_two_processes_are_one_with_all_images_at_once(method: str, pairs: Path, tmp_path: Path) -> None:
    options = [*PER_IMAGE[method], *NO_PADDING, "batch.labeled=4", "batch.unlabeled=4"]
    with without_batch_statistics():
        _, state = run(tmp_path, f"method={method}", *options)
    assert_same_run(tmp_path, state, pairs, f"{method}_whole")


@pytest.mark.parametrize("method", METHODS)
def test_all_processes_end_with_the_same_networks(method: str, pairs: Path) -> None:
    """As they come: BatchNorm with statistics of each process's batch, queues, class statistics, memories.

    The state is that after the last validation, which begins with the buffers of rank 0. There is a single validation
    image: rank 1 has none, and must neither wait nor be waited for.
    """
    first, second = ranks(pairs, f"{method}_plain")
    differing = [k for k, v in first["state"].items() if not torch.equal(v, second["state"][k])]
    assert not differing
    assert first["result"]["miou"] == second["result"]["miou"] and not math.isnan(first["result"]["miou"]["last"])
    saved = load_checkpoint(pairs / f"{method}_plain/checkpoints/last.ckpt")["state_dict"]
    assert all(torch.equal(saved[k], v) for k, v in first["state"].items() if k in saved)


def test_bf16_and_channels_last_train_with_two_processes(pairs: Path) -> None:
    first, second = ranks(pairs, "speed")
    assert first["result"]["status"] == "completed"
    assert all(torch.equal(v, second["state"][k]) for k, v in first["state"].items())
    assert all(math.isfinite(float(row["train/loss"])) for row in rows(pairs / "speed"))
