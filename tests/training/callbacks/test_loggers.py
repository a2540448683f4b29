"""Dashboards besides the CSV: offline, one wandb run per folder, scalars, table and panels."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import threading
import time
import urllib.error
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from semiseg.api.runs import train_overrides
from semiseg.config import compose_config
from semiseg.config.settings import read_settings
from semiseg.errors import InputError
from semiseg.runs.folder import RunFolder
from semiseg.training import loggers
from semiseg.training.fit import train
from semiseg.training.loggers import no_answer, reachable_or_offline, wandb_settings
from support.tiny import tiny

TINY = tiny("method=fixmatch")


def test_wandb_offline_writes_one_run_per_job_in_one_process(tmp_path: Path, monkeypatch) -> None:
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_SILENT", "true")
    for seed in (0, 1):
        folder = tmp_path / f"seed_{seed}"
        train(compose_config([*TINY, f"seed={seed}", "logger=wandb"]), folder)
        (run,) = (folder / "wandb").glob("offline-run-*")
        assert list(run.glob("*.wandb")) and list(run.rglob("*iou*.table.json")) and list(run.rglob("*.png"))
    names = {next(tmp_path.glob(f"seed_{s}/wandb/offline-run-*")).name.split("-")[-1] for s in (0, 1)}
    assert len(names) == 2


@pytest.mark.parametrize("server", ["http://127.0.0.1:9", "http://server.invalid", "no address"])
def test_wandb_online_without_a_network_goes_on_offline(server: str, tmp_path: Path, monkeypatch, caplog) -> None:
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_SILENT", "true")
    monkeypatch.setattr("semiseg.training.loggers.no_answer", lambda _: no_answer(server))
    train(compose_config([*TINY, "logger=wandb", "logger.wandb.mode=online"]), tmp_path)
    assert "going offline" in caplog.text
    (run,) = (tmp_path / "wandb").glob("offline-run-*")
    assert list(run.glob("*.wandb"))


@pytest.fixture(params=[b"", b"HTTP/1.1 "])
def silent_server(request):
    """The address of a server that takes every connection and never answers, or only begins to."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        kept = []

        def accept() -> None:
            with contextlib.suppress(OSError):
                while True:
                    kept.append(server.accept()[0])
                    while request.param:  # an answer that trickles never runs into the time limit of a socket
                        kept[-1].sendall(request.param)
                        time.sleep(0.05)

        threading.Thread(target=accept, daemon=True).start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


def test_wandb_online_does_not_wait_for_a_server_that_swallows(silent_server, tmp_path: Path, monkeypatch, caplog):
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_SILENT", "true")
    monkeypatch.setattr("semiseg.training.loggers.PATIENCE", 0.5)
    begun = time.monotonic()
    assert "no answer within 0.5 seconds" in no_answer(silent_server) or "timed out" in no_answer(silent_server)
    assert time.monotonic() - begun < 5
    monkeypatch.setattr("semiseg.training.loggers.no_answer", lambda _: no_answer(silent_server))
    train(compose_config([*TINY, "logger=wandb", "logger.wandb.mode=online"]), tmp_path)
    assert "going offline" in caplog.text
    assert list((tmp_path / "wandb").glob("offline-run-*"))


def test_the_server_of_wandb_gets_ten_seconds() -> None:
    assert loggers.PATIENCE == 10


def test_a_server_that_says_no_is_there(monkeypatch) -> None:
    def refuse(url: str, timeout: float) -> None:
        raise urllib.error.HTTPError(url, 403, "no", {}, None)  # type: ignore[arg-type]

    monkeypatch.setattr("urllib.request.urlopen", refuse)
    assert no_answer("http://server.invalid") == ""


@pytest.mark.parametrize("error,told", [("UsageError", InputError), ("CommError", None)])
def test_what_wandb_says_after_the_server_answered(error: str, told, monkeypatch, caplog) -> None:
    wandb = pytest.importorskip("wandb")
    monkeypatch.setattr("semiseg.training.loggers.no_answer", lambda _: "")

    def make(**place):
        if place.get("mode") != "offline":
            raise getattr(wandb.errors, error)("what it says")
        return place

    opened = reachable_or_offline(make, "online")
    if told:
        with pytest.raises(told, match=r"logger\.wandb\.mode=online: what it says"):
            opened(name="a")
    else:
        assert opened(name="a") == {"name": "a", "mode": "offline"} and "what it says" in caplog.text


@pytest.mark.cli
def test_wandb_offline_writes_one_run_per_job_of_a_sweep(tmp_path: Path, monkeypatch) -> None:
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_SILENT", "true")
    env = os.environ | {"PYTHONPATH": str(Path(__file__).parents[3] / "src"), "WANDB_SILENT": "true"}
    words = [*TINY, f"paths.runs={tmp_path}", "logger=wandb"]  # two jobs in one process, and one in another
    command = [sys.executable, "-m", "semiseg", "train", "-m", "seed=0,1", *words]
    subprocess.run(command, env=env, check=True, capture_output=True)
    train_overrides([*words, "seed=2"])
    folders = sorted(path.parent for path in tmp_path.rglob("wandb_id.txt"))
    assert len(folders) == 3
    ids = [(folder / "wandb_id.txt").read_text().strip() for folder in folders]
    assert len(set(ids)) == 3
    for folder, run_id in zip(folders, ids):
        (run,) = (folder / "wandb").glob("offline-run-*")
        assert run.name.endswith(run_id)
        assert list(run.glob("*.wandb"))


def test_a_folder_keeps_its_wandb_run_and_groups_by_names(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.delenv("WANDB_RUN_ID", raising=False)
    cfg = compose_config([*TINY, "logger=wandb", "study=mine", "seed=3"])
    folder = RunFolder(tmp_path)
    settings = wandb_settings(read_settings(cfg), folder, "shapes/1_8")
    assert wandb_settings(read_settings(cfg), folder, "shapes/1_8")["id"] == settings["id"]
    assert settings["tags"] == ["shapes/1_8", "fixmatch", "tiny", "seed_3"]
    assert settings["config"]["names"] == {
        "study": "mine", "data": "shapes", "partition": "1_8", "method": "fixmatch", "model": "tiny", "seed": 3,
    }  # fmt: skip
    assert (cfg.logger.wandb.group, cfg.logger.wandb.job_type) == ("mine", "fixmatch")
    cfg.overwrite = True
    assert wandb_settings(read_settings(cfg), folder, "shapes/1_8")["id"] != settings["id"]
    monkeypatch.setenv("WANDB_RUN_ID", "given-by-agent")
    assert wandb_settings(read_settings(cfg), folder, "shapes/1_8")["id"] == "given-by-agent"


def test_tensorboard_gets_scalars_and_panels(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    train(compose_config([*TINY, "logger=tensorboard"]), tmp_path)
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert {"train/loss", "val/miou", "val/iou/disc", "lr/head", "time/step", "memory/peak_mb"} <= set(
        events.Tags()["scalars"]
    )
    assert "panels/val_0_prediction" in events.Tags()["images"]
    assert [e.step for e in events.Scalars("val/miou")] == [2]


def test_hidden_truth_is_loaded_and_scored_on_request_only(tmp_path: Path) -> None:
    for wanted in (False, True):
        folder = tmp_path / str(wanted)
        train(compose_config([*TINY, f"diagnostics.pseudo_labels={wanted}", "method.conf_threshold=0"]), folder)
        header = (folder / "metrics.csv").read_text().splitlines()[0]
        assert ("pseudo/accuracy" in header) == wanted
        assert "train/kept_ratio" in header and "train/pseudo_share/disc" in header
        assert (folder / "images/unlabeled_0_truth.png").exists() == wanted
        assert (folder / "images/unlabeled_0_confidence.png").exists()
    assert OmegaConf.load(folder / "config.yaml").diagnostics.pseudo_labels is True
