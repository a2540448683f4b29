"""One run on several nodes: the same as on one, and a lost node leaves a run that goes on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from semiseg.runs.result import read_result
from semiseg.sweep.jobs import Job, Node
from semiseg.sweep.processes import Pool
from support.ddp_runs import run, without_batch_statistics
from support.node_runs import METHOD
from support.postgres import free_port
from support.processes import family, send

pytestmark = [pytest.mark.slow, pytest.mark.ddp, pytest.mark.cli]

TESTS = Path(__file__).parents[1]


def torchrun(folder: Path, devices: int, nodes: int) -> list[dict[str, torch.Tensor]]:
    """The state of each process at the end."""
    folder.mkdir()
    port, started = free_port(), []
    for rank in range(nodes):
        place = [f"--nnodes={nodes}", f"--node_rank={rank}", "--master_addr=127.0.0.1", f"--master_port={port}"]
        command = [sys.executable, "-m", "torch.distributed.run", *place, f"--nproc_per_node={devices}"]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        words = [*command, "-m", "support.node_runs", str(folder), str(devices), str(nodes)]
        started.append(subprocess.Popen(words, cwd=TESTS, env=environment, stderr=subprocess.PIPE, text=True))
    for process in started:
        _, told = process.communicate(timeout=400)
        assert process.returncode == 0, told[-3000:]
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(devices * nodes)]


def test_two_nodes_of_two_are_one_node_of_four_and_one_process_of_four_parts(tmp_path: Path) -> None:
    """Bit-equal between the two ways of four processes; 1e-4 relative to one process, which adds in another order."""
    two_nodes, one_node = torchrun(tmp_path / "2x2", 2, 2), torchrun(tmp_path / "1x4", 4, 1)
    with without_batch_statistics():
        _, alone = run(tmp_path / "alone", *METHOD, "trainer.accumulate=4")
    learned = [k for k, v in alone.items() if v.is_floating_point() and not k.startswith("metrics.")]
    assert len(learned) > 10
    for rank in range(4):
        for key in learned:
            assert torch.equal(two_nodes[rank][key], one_node[0][key]), key
            torch.testing.assert_close(two_nodes[rank][key], alone[key], rtol=1e-4, atol=1e-5, msg=key)


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="finds processes in /proc")
def test_a_lost_node_leaves_a_run_that_goes_on(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    settings = (
        "data.size=[48,48]", "data.n_train=16", "data.n_val=4", "protocol=shapes/1_8", "crop_size=[32,32]",
        "batch.labeled=1", "batch.unlabeled=1", "trainer=debug", "loader.num_workers=0", "model.width=8",
        "diagnostics.panels=0", "method=supervised", "max_steps=120", "val_every=60", "trainer.save_every=5",
        "trainer.devices=1", "trainer.num_nodes=2",
    )  # fmt: skip
    job = Job(settings, tmp_path / "run", "two nodes", devices=1, nodes=2)
    last = job.folder / "checkpoints/last.ckpt"

    def start() -> list[Pool]:
        address, pools = f"127.0.0.1:{free_port()}", [Pool([{}]) for _ in range(2)]
        for rank, pool in enumerate(pools):
            pool.start(job, node=Node(rank, address))
        return pools

    def ends(pool: Pool):
        deadline = time.monotonic() + 240
        while not (ended := pool.ended()):
            assert time.monotonic() < deadline
            time.sleep(0.1)
        return ended[0][1]

    nodes = start()
    deadline = time.monotonic() + 240
    while not last.exists():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    send(family(nodes[1].running[0].process.pid), signal.SIGKILL)
    assert ends(nodes[1]).status == "failed"
    assert ends(nodes[0]).status in ("failed", "interrupted"), "the other node does not wait for ever"
    assert read_result(job.folder)["status"] != "completed" and last.exists()

    found = [ends(pool) for pool in start()]
    assert [f.status for f in found] == ["completed"] * 2, [str(f) for f in found]
    result = read_result(job.folder)
    assert result["steps"] == 120 and result["world_size"] == 2
    assert "resumes from" in (job.folder / "log.txt").read_text()
