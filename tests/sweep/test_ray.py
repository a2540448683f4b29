"""Ray: a cluster of two nodes made on this machine, one of them killed; jobs of several processes; Ctrl-C."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

ray = pytest.importorskip("ray", reason="Ray is not installed: pip install 'semiseg[ray]'")

from semiseg.dashboard.read.find import find_runs  # noqa: E402
from semiseg.errors import InputError  # noqa: E402
from semiseg.runs.result import read_result  # noqa: E402
from semiseg.sweep.jobs import Job  # noqa: E402
from semiseg.sweep.ray_jobs import RayJobs, Resources  # noqa: E402

pytestmark = [pytest.mark.slow, pytest.mark.ray, pytest.mark.cli]

SETTINGS = (
    "data.size=[48,48]", "data.n_train=16", "data.n_val=4", "protocol=shapes/1_8", "crop_size=[32,32]",
    "batch.labeled=2", "batch.unlabeled=2", "trainer=debug", "loader.num_workers=0", "model.width=8",
    "diagnostics.panels=0", "method=supervised", "trainer.save_every=5",
)  # fmt: skip
SMALL = {"object_store_memory": 80 * 2**20}


@pytest.fixture
def cluster() -> Iterator:
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    from ray.cluster_utils import Cluster

    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False, **SMALL})
    try:
        yield made
    finally:
        ray.shutdown()
        made.shutdown()


def job(folder: Path, seed: int, *overrides: str, devices: int = 1, nodes: int = 1) -> Job:
    placed = (f"trainer.devices={devices}", f"trainer.num_nodes={nodes}")
    return Job(
        (*SETTINGS, f"seed={seed}", *placed, *overrides), folder / f"runs/seed_{seed}", f"seed={seed}", devices, nodes
    )


def test_runs_of_a_node_that_is_killed_go_on_elsewhere(cluster, tmp_path: Path, caplog) -> None:
    nodes = [cluster.add_node(num_cpus=1, **SMALL) for _ in range(2)]
    jobs = [job(tmp_path, seed, "max_steps=60", "val_every=30") for seed in range(3)]
    started = RayJobs(cluster.address)

    def kill() -> None:
        while not all((j.folder / "checkpoints/last.ckpt").exists() for j in jobs[:2]):
            time.sleep(0.05)
        cluster.remove_node(nodes[0], allow_graceful=False)

    killer = threading.Thread(target=kill, daemon=True)
    killer.start()
    with caplog.at_level("INFO"):
        outcomes = started.run(jobs)
    started.close()
    assert [o.status for o in outcomes] == ["completed"] * 3, [str(o) for o in outcomes]
    assert [o.job for o in outcomes] == jobs and caplog.text.count("resumes on another node") == 1
    assert any("resumes from" in (j.folder / "log.txt").read_text() for j in jobs[:2])


def test_two_processes_on_one_node_and_on_two(cluster, tmp_path: Path) -> None:
    for _ in range(2):
        cluster.add_node(num_cpus=2, **SMALL)
    jobs = [
        job(tmp_path, 0, "max_steps=4", "val_every=2", devices=2),
        job(tmp_path, 1, "max_steps=4", "val_every=2", devices=1, nodes=2),
    ]
    started = RayJobs(cluster.address)
    outcomes = started.run(jobs)
    started.close()
    assert [o.status for o in outcomes] == ["completed"] * 2, [str(o) for o in outcomes]
    assert [read_result(j.folder)["world_size"] for j in jobs] == [2, 2]


def test_ctrl_c_leaves_runs_that_go_on(tmp_path: Path) -> None:
    settings = [o for o in SETTINGS if not o.startswith("method")]
    words = ["train", "-m", *settings, "method=supervised", "seed=0,1", "hydra/launcher=ray"]
    sweep = subprocess.Popen(
        [sys.executable, "-m", "semiseg", *words, "max_steps=100000", "val_every=1000"],
        cwd=tmp_path,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    deadline = time.monotonic() + 240
    while len(list(tmp_path.rglob("last.ckpt"))) < 2:
        assert sweep.poll() is None and time.monotonic() < deadline
        time.sleep(0.1)
    assert [run.status for run in find_runs([tmp_path / "runs"])] == ["running"] * 2
    sweep.send_signal(signal.SIGINT)
    _, told = sweep.communicate(timeout=120)
    assert sweep.returncode == 130, told
    results = [read_result(p.parent) for p in tmp_path.rglob("result.json")]
    assert [r["status"] for r in results] == ["interrupted"] * 2
    found = find_runs([tmp_path / "runs"])
    assert [run.status for run in found] == ["interrupted"] * 2 and all(run.last_step for run in found)


def test_a_cluster_that_cannot_be_reached_is_named() -> None:
    with pytest.raises(InputError, match=r"hydra\.launcher\.address=auto: "):
        RayJobs("auto")


def test_resources_of_a_job() -> None:
    needs = Resources(cpus=2, gpus=0.5, memory_gb=1)
    two = Job((), Path("x"), devices=2, on_gpu=True)
    assert needs.of(two, True) == {"num_cpus": 4, "num_gpus": 1.0, "memory": 2**30}
    assert needs.of(two, False) == {"num_cpus": 4, "memory": 2**30}
    assert Resources().of(Job((), Path("x")), True) == {"num_cpus": 1.0}
